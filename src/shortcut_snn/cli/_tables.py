"""Read tables and nested entries of runs, and turn them into text."""

import csv
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ..training import Row, flatten_entries


def read_rows(path: Path, text: Collection[str] = ()) -> list[Row]:
    """Return the rows of a CSV file, none if it is missing: cells as floats, but as text in the columns ``text``."""
    if not path.is_file():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = [{key: cell or "" for key, cell in line.items() if key} for line in csv.DictReader(file)]
    except (UnicodeDecodeError, csv.Error):
        raise ValueError(f"{path} is damaged: it is not a CSV file") from None
    return [{key: cell if key in text else _number(cell) for key, cell in line.items()} for line in lines]


def _number(cell: str) -> float | str:
    try:
        return float(cell or "nan")
    except ValueError:
        return cell


def value_at(entries: Mapping[str, Any], key: str) -> Any:
    """Return the value under a dotted key; None if there is none."""
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
