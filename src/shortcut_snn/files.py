"""Files that are either whole or not there."""

import csv
import io
import json
import os
import re
import secrets
import time
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_PREFIX = ".shortcut-snn-"
_STRAY = re.compile(rf"^{re.escape(_PREFIX)}.+-[0-9a-f]{{8}}(\.\w+)?$")


class WriteError(OSError):
    """A file that could not be written, and why, in one line."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(error.errno, error.strerror or str(error))
        self.path = path

    def __str__(self) -> str:
        return f"{self.path} could not be written: {self.strerror}"


def expanded(path: str | Path) -> Path:
    """Return a path with ``~`` and ``~name`` in it as the home folders they stand for.

    Raises:
        ValueError: nobody of that name is known here.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ValueError(f"{path}: there is no home folder of that name; write the path out") from None


def make_folder(folder: Path) -> None:
    """Make a folder if it is not there.

    Raises:
        WriteError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(folder, error) from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside ``path``; rename it to ``path`` if the block ends well, else remove it.

    The rename is atomic, so a reader, or the next process after a kill, sees the old file or the new one.

    Raises:
        WriteError: the folder cannot be written to, or the disk is full; the old file is as it was.
    """
    make_folder(path.parent)
    temporary = path.with_name(f"{_PREFIX}{path.stem}-{secrets.token_hex(4)}{path.suffix}")
    try:
        # The umask applies by itself; asking for it would mean setting it, for all threads.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:
        raise WriteError(path, error) from error
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise WriteError(path, error) from error
        raise


def remove_strays(folder: Path, older_than: float = 0.0) -> None:
    """Remove temporary files that killed processes left in a folder.

    Args:
        folder: it may be missing.
        older_than: minimum age in seconds, if other processes may be writing to the folder.
    """
    for path in folder.iterdir() if folder.is_dir() else ():
        if _STRAY.match(path.name):
            # Another process may remove the file first, and a shared folder may be read-only.
            with suppress(OSError):
                if time.time() - path.stat().st_mtime >= older_than:
                    path.unlink()


def refuse_others(folder: Path, said: str, ours: Container[str] = ()) -> None:
    """Refuse a folder that holds something else, which files of ours might replace.

    Args:
        folder: it may be missing.
        said: begins what is said where it does.
        ours: names of what may be there besides what killed writers left.

    Raises:
        FileExistsError: it does; the message names one of these.
    """
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name not in ours and not _STRAY.match(path.name):
            raise FileExistsError(f"{said}, but {path.name}; name another folder")


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Return an object from a JSON file; an empty one where there is no file.

    Raises:
        ValueError: it is damaged.
    """
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"{path} is damaged: it holds no JSON object")
    return found


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV, whole or not at all; columns in order of first appearance."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
