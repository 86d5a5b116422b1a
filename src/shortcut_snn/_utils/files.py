"""Reading and writing of small files; a file is written completely or not at all."""

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
_FORMULA = re.compile(r"[=@\t\r]|[+-](?!(\d*\.?\d*(e[+-]?\d+)?|inf|nan)$)")
_STRAY = re.compile(rf"^{re.escape(_PREFIX)}.+-[0-9a-f]{{8}}(\.\w+)?$")


class WriteError(OSError):
    """A file that could not be written; the message gives the reason in one line."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(error.errno, error.strerror or str(error))
        self.path = path

    def __str__(self) -> str:
        return f"{self.path} could not be written: {self.strerror}"


def expanded(path: str | Path) -> Path:
    """Return a path with ``~`` and ``~name`` replaced by home folders."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ValueError(f"{path}: the home folder does not exist; write the whole path") from None


def make_folder(folder: Path) -> None:
    """Create a folder and its parents, if they are missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(folder, error) from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary file next to ``path``; rename it to ``path`` if the block succeeds, else remove it.

    The rename is atomic, so a reader, or the next process after a kill, sees the old file or the new one.
    """
    make_folder(path.parent)
    temporary = path.with_name(f"{_PREFIX}{path.stem}-{secrets.token_hex(4)}{path.suffix}")
    try:
        # os.open applies the umask; reading the umask would mean to set it, for all threads.
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


def remove_strays(folder: Path, older_than: float = 3600.0) -> None:
    """Remove temporary files that killed processes left in a folder.

    Other processes that write to the folder need theirs for far less than an hour.
    """
    for path in folder.iterdir() if folder.is_dir() else ():
        if _STRAY.match(path.name):
            # Another process may remove the file first, and a shared folder may be read-only.
            with suppress(OSError):
                if time.time() - path.stat().st_mtime >= older_than:
                    path.unlink()


def refuse_others(folder: Path, message: str, expected: Container[str] = ()) -> None:
    """Raise an error if a folder holds files that this package did not write and might replace."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name not in expected and not _STRAY.match(path.name):
            raise FileExistsError(f"{message}, but {path.name}; name another folder")


def write_text(path: Path, text: str) -> None:
    """Write a text file completely or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file, an empty one if the file is missing."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged: it does not hold a JSON object")
    return content


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as a CSV file, completely or not at all; the columns are in order of first appearance."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _no_formula(value) for key, value in row.items()} for row in rows)
    write_text(path, text.getvalue())


def _no_formula(value: Any) -> Any:
    """Return a cell that no spreadsheet runs as a formula: an apostrophe makes it text. Numbers stay as they are."""
    is_formula = isinstance(value, str) and _FORMULA.match(value)
    return f"'{value}" if is_formula else value


def original_text(cell: str) -> str:
    """Return the text of a cell before :func:`write_csv` put an apostrophe before a formula."""
    return cell[1:] if cell[:1] == "'" and _FORMULA.match(cell, 1) else cell
