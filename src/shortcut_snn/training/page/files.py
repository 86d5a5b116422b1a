"""What the pages read from folders."""

import csv
import json
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a CSV file, numbers as numbers; none where there is no file.

    Raises:
        ValueError: it is not text.
    """
    if not path.is_file():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [{key: number(value) for key, value in row.items() if key} for row in csv.DictReader(file)]
    except (UnicodeDecodeError, csv.Error):
        raise ValueError(f"{path} is damaged: it is no CSV file") from None


def number(text: str | None) -> Any:
    """Return the number that a text is, NaN for an empty one, else the text."""
    if not text:
        return float("nan")
    try:
        return float(text)
    except ValueError:
        return text


def read_json(path: Path) -> dict[str, Any]:
    """Return an object from a JSON file; an empty one where there is no file.

    Raises:
        ValueError: it is damaged.
    """
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"{path} is damaged: it holds no JSON object")
    return found


def flat(entries: dict[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Return nested entries as pairs of a dotted key and a text."""
    pairs: list[tuple[str, str]] = []
    for key, value in entries.items():
        if isinstance(value, dict):
            pairs += flat(value, f"{before}{key}.")
        else:
            pairs.append((f"{before}{key}", "" if value is None else str(value)))
    return pairs
