"""Events as text, four numbers per line (``.txt``, ``.csv``)."""

import re
from pathlib import Path

import numpy as np

from ...errors import DataFileError, one_line
from ..recording import Events
from .clock import to_microseconds

_NAMES = {"timestamp": "t", "time": "t", "ts": "t", "polarity": "p", "pol": "p"} | {name: name for name in "xytp"}


def read_text(path: Path) -> Events:
    """Read lines of t, x, y and p, separated by blanks or commas; a first line may name another order.

    Times are microseconds, or seconds if any has a fraction. p is positive where the brightness rose.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        columns, has_heading = _columns(lines[0] if lines else "")
        rows = [line.partition("#")[0].replace(",", " ").replace(";", " ") for line in lines[has_heading:]]
        if not any(row.strip() for row in rows):
            raise ValueError("it has no lines of numbers")
        table = np.loadtxt(rows, ndmin=2)
        if table.shape[1] != 4:
            raise ValueError(f"each line must have 4 numbers, not {table.shape[1]}")
        t, x, y, p = (table[:, columns.index(name)] for name in "txyp")
        if not np.isfinite(table).all() or (x % 1).any() or (y % 1).any():
            raise ValueError("x and y must be integers")
    except ValueError as error:
        raise DataFileError(f"{path} is not a text of events: {one_line(error)}") from error
    return Events.of(to_microseconds(t), x, y, p > 0)


def _columns(first_line: str) -> tuple[list[str], bool]:
    """Return the order of the columns, and whether the first line is a heading that names them."""
    text = first_line.strip().lower()
    words = [word.strip("\"'") for word in re.split(r"[\s,;]+", text.removeprefix("#").strip())]
    # A line that starts with # is a heading only if it names columns; other comments are ignored.
    is_heading = all(word in _NAMES for word in words) or text.lstrip("\"'")[:1].isalpha()
    if not is_heading:
        return list("txyp"), False
    columns = [_NAMES.get(word, word) for word in words]
    if sorted(columns) != sorted("txyp"):
        raise ValueError(f"its first line names {', '.join(words)}, not x, y, t and p")
    return columns, True
