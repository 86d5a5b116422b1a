"""Events as lines of four numbers (``.txt``, ``.csv``)."""

import re
from pathlib import Path

import numpy as np

from ...errors import one_line
from ..recording import Events, RecordingError, Sensor
from .files import microseconds

_NAMES = {"timestamp": "t", "time": "t", "ts": "t", "polarity": "p", "pol": "p"} | {name: name for name in "xytp"}


def read_text(path: Path, sensor: Sensor) -> Events:
    """Read lines of t, x, y and p with blanks or commas between, or in the order that a first line names.

    Times are microseconds, or seconds where any has a decimal point; p is greater than 0 where the brightness rose.

    Raises:
        RecordingError: the file is no such text.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        first = lines[0].strip().lower() if lines else ""
        words = [word.strip("\"'") for word in re.split(r"[\s,;]+", first.removeprefix("#").strip())]
        # A comment may say anything.
        named = all(word in _NAMES for word in words) or first.lstrip("\"'")[:1].isalpha()
        order = [_NAMES.get(word, word) for word in words] if named else list("txyp")
        if sorted(order) != sorted("txyp"):
            raise ValueError(f"its first line names {', '.join(words)}, not x, y, t and p")
        rows = [line.partition("#")[0].replace(",", " ").replace(";", " ") for line in lines[named:]]
        if not any(row.strip() for row in rows):
            raise ValueError("it has no lines of numbers")
        table = np.loadtxt(rows, ndmin=2)
    except ValueError as error:
        raise RecordingError(f"{path} is no text of events: {one_line(error)}") from error
    if table.shape[1:] != (4,):
        raise RecordingError(f"{path} is no text of events: four numbers a line are needed, not {table.shape[1]}")
    t, x, y, p = (table[:, order.index(name)] for name in "txyp")
    if not np.isfinite(table).all() or (x % 1).any() or (y % 1).any():
        raise RecordingError(f"{path} is no text of events: x and y must be whole numbers")
    return Events.of(microseconds(t), x, y, p > 0)
