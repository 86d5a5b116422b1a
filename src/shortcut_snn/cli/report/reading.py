"""Read the files of runs and comparisons, and name the file that is damaged."""

import csv
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ...training import flatten_entries

Row = dict[str, Any]


def read_rows(path: Path, numbers: Collection[str] = (), text: Collection[str] = (), mixed: bool = False) -> list[Row]:
    """Return the rows of a CSV file; empty if the file does not exist.

    Args:
        path: of the file.
        numbers: columns that must be there and hold numbers; an empty cell is NaN.
        text: columns that must be there and hold text.
        mixed: other columns may hold text too; by default they hold numbers.

    Raises:
        ValueError: the file is damaged.
    """
    if not path.is_file():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = [{key: cell or "" for key, cell in line.items() if key} for line in csv.DictReader(file)]
    except (UnicodeDecodeError, csv.Error):
        raise ValueError(f"{path} is damaged: it is not a CSV file") from None
    for column in [*numbers, *text]:
        if lines and column not in lines[0]:
            raise ValueError(f"{path} is damaged: it has no column {column!r}")
    rows: list[Row] = [{key: cell if key in text else _number(cell) for key, cell in line.items()} for line in lines]
    for row in rows:
        for key, value in row.items():
            must_be_number = key not in text and (key in numbers or not mixed)
            # Every row of a table over epochs has an epoch.
            if (must_be_number and isinstance(value, str)) or (key == "epoch" and not math.isfinite(value)):
                raise ValueError(f"{path} is damaged: {str(value)[:40]!r} in column {key!r} is not a number")
    return rows


def _number(cell: str) -> float | str:
    """Return a cell as a number, NaN if it is empty, else as text."""
    if not cell:
        return math.nan
    try:
        return float(cell)
    except ValueError:
        return cell


def value_at(entries: Mapping[str, Any], key: str) -> Any:
    """Return the value under a dotted key; None if there is none.

    Example:
        >>> value_at({"network": {"kind": "resnet18"}}, "network.kind")
        'resnet18'
    """
    value: Any = entries
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def number_at(entries: Mapping[str, Any], key: str) -> float:
    """Return the number under a dotted key; NaN if there is none."""
    value = value_at(entries, key)
    return float(value) if isinstance(value, int | float) else math.nan


def entry_texts(entries: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return nested entries as pairs of a dotted key and a text.

    Example:
        >>> entry_texts({"data": {"augment": ["crop", "flip"], "cache": None}, "loggers": [{"kind": "csv"}]})
        [('data.augment', 'crop, flip'), ('data.cache', '-'), ('loggers.0.kind', 'csv')]
    """

    def text(value: Any) -> str:
        value = ", ".join(map(str, value)) if isinstance(value, list) else value
        return "-" if value in (None, "", {}) else str(value)

    return [(key, text(value)) for key, value in flatten_entries(entries, lists=True)]
