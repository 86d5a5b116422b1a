"""Nested entries of runs, read by their dotted keys and turned into text."""

import math
from collections.abc import Mapping
from typing import Any

from ..training import flatten_entries


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
