"""The parts of a page, and the page as HTML."""

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jinja2 import Environment

from ..._utils.markdown import printable
from ...training.folder import Row
from ...training.provenance import flatten_entries
from ...training.tables import COLUMN_TITLES, column_title, format_value

Picture = tuple[str, str]
"""A title, and the address of a figure that is part of the page."""


@dataclass(frozen=True)
class Table:
    """Columns and rows of text."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    fold: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the page: text, then pictures, then tables."""

    title: str
    text: str = ""
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()


@dataclass(frozen=True)
class Page:
    """A page."""

    title: str
    subtitle: str
    answer: str
    verdict: Sequence[str]
    facts: Sequence[tuple[str, str]]
    sections: Sequence[Section]
    command: str = ""


def render(page: Page) -> str:
    """Return a page as one HTML file that refers to nothing outside itself."""
    template = (resources.files(__package__) / "page.html.jinja").read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        # Control characters in texts become visible.
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    return environment.from_string(template).render(page=page)


def picture(title: str, draw: Callable[[Path], None]) -> Picture:
    """Return what a function draws into an SVG file as a picture."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "figure.svg"
        draw(path)
        return title, f"data:image/svg+xml;base64,{base64.b64encode(path.read_bytes()).decode()}"


def all_columns(rows: Sequence[Row], fold: str, names: bool = True) -> Table:
    """Return rows as a folded table of all their columns; with ``names``, columns get a readable name."""
    columns = list(dict.fromkeys(column for row in rows for column in row))

    def cell(column: str, value: Any) -> str:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if column == "break_even_rate" and value == 0:
            return "never"
        return format_value(value * COLUMN_TITLES.get(column, ("", 1))[1] if is_number else value)

    cells = [[cell(column, row.get(column, math.nan)) for column in columns] for row in rows]
    return Table([column_title(column) if names else column for column in columns], cells, fold)


def entries_section(title: str, entries: Mapping[str, Any]) -> list[Section]:
    """Return a section with a folded table of nested entries, if there are any."""
    return [Section(title, tables=[Table((), entry_texts(entries), "all entries")])] if entries else []


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
