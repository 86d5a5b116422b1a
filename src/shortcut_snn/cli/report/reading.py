"""What the pages read from folders, and the one sentence about what cannot be read."""

import csv
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ...training import flatten_entries

Row = dict[str, Any]


def read_rows(path: Path, numbers: Collection[str] = (), text: Collection[str] = (), mixed: bool = False) -> list[Row]:
    """Return the rows of a CSV file; none where there is no file.

    Args:
        path: of the file.
        numbers: columns of numbers that have to be there; an epoch has to be known in every row.
        text: columns of text that have to be there.
        mixed: whether other columns may hold anything; else they are numbers too. Empty cells are NaN.

    Raises:
        ValueError: it is damaged.
    """
    if not path.is_file():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [{key: cell or "" for key, cell in row.items() if key} for row in csv.DictReader(file)]
    except (UnicodeDecodeError, csv.Error):
        raise ValueError(f"{path} is damaged: it is no CSV file") from None
    for column in [*numbers, *text]:
        if rows and column not in rows[0]:
            raise ValueError(f"{path} is damaged: it has no column {column!r}")
    found: list[Row] = []
    for row in rows:
        found.append({key: cell if key in text else number(cell) for key, cell in row.items()})
        for key, value in found[-1].items():
            wrong = isinstance(value, str) and key not in text and (key in numbers or not mixed)
            if wrong or (key == "epoch" and not math.isfinite(value)):
                raise ValueError(f"{path} is damaged: {str(value)[:40]!r} in column {key!r} is no number")
    return found


def number(cell: Any) -> Any:
    """Return the number that a cell's text is, NaN for an empty one, else the text."""
    if not cell:
        return math.nan
    try:
        return float(cell)
    except ValueError:
        return cell


def entry(entries: Mapping[str, Any], key: str) -> Any:
    """Return what stands under a dotted key, None where nothing does.

    Example:
        >>> entry({"network": {"kind": "resnet18"}}, "network.kind")
        'resnet18'
    """
    found: Any = entries
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def figure(entries: Mapping[str, Any], key: str) -> float:
    """Return the number under a dotted key, NaN where there is none."""
    found = entry(entries, key)
    return float(found) if isinstance(found, int | float) else math.nan


def texts(entries: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return nested entries as pairs of a dotted key and a text.

    Example:
        >>> texts({"data": {"augment": ["crop", "flip"], "cache": None}, "loggers": [{"kind": "csv"}]})
        [('data.augment', 'crop, flip'), ('data.cache', '-'), ('loggers.0.kind', 'csv')]
    """

    def text(value: Any) -> str:
        value = ", ".join(map(str, value)) if isinstance(value, list) else value
        return "-" if value in (None, "", {}) else str(value)

    return [(key, text(value)) for key, value in flatten_entries(entries, lists=True)]
