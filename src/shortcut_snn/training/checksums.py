"""Hashes of the files that a resumed run reads, beside them: what is not as it was written is not gone on with."""

import hashlib
import json
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from zipfile import BadZipFile, ZipFile, is_zipfile

from ..files import read_json, replacing, write_text

NAME = "checksums.json"
MOST = 20
"""So many hashes of each file are kept: after a kill between a hash and its file, the one before still counts."""


def digest(path: Path) -> str:
    """Return the SHA-256 of a file; one that has not been written meanwhile is not read again."""
    state = path.stat()
    return _digest(path, (state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns))


@lru_cache(maxsize=8)
def _digest(path: Path, state: tuple[int, ...]) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seal(path: Path, written: Path) -> None:
    """Note the hash of ``written``, which is about to get the name ``path``.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "file")
        >>> _ = path.write_text("as it was")
        >>> seal(path, path)
        >>> check(path)
    """
    place = path.with_name(NAME)
    known = read_json(place)
    before = known.get(path.name)
    known[path.name] = [digest(written), *(before if isinstance(before, list) else [])][:MOST]
    write_text(place, json.dumps(known, indent=2) + "\n")


def write_sealed(path: Path, text: str) -> None:
    """Write a text file whole or not at all, and note its hash."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
        seal(path, temporary)


def check(path: Path) -> None:
    """Refuse a file that is not as it was written.

    Of one without a hash, as of an earlier version, nothing is known, but that the parts of a checkpoint have sums of
    their own.

    Raises:
        ValueError: it has changed, or is missing.
    """
    known = read_json(path.with_name(NAME)).get(path.name)
    if known is not None and not path.is_file():
        raise ValueError(f"{path} is missing; put it back from a copy, or start the run anew in another folder")
    wrong = known is not None and digest(path) not in (known if isinstance(known, list) else [])
    if wrong or (known is None and is_zipfile(path) and _broken(path)):
        raise ValueError(
            f"{path} is damaged or was changed: it is not what the run wrote ({NAME if wrong else 'by its own sums'}); "
            "put it back from a copy, or start the run anew in another folder"
        )


def _broken(path: Path) -> bool:
    with suppress(BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError, EOFError), ZipFile(path) as parts:
        return parts.testzip() is not None
    return True
