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

from .._utils.markdown import printable
from ..training import COLUMN_TITLES, Row, column_title, format_value
from ._entries import entry_texts


@dataclass(frozen=True)
class Picture:
    """A figure, embedded in the page."""

    title: str
    source: str


@dataclass(frozen=True)
class Table:
    """Columns and rows of text.

    Args:
        columns: their names; empty for a table without a head.
        fold: the words that open a folded table; empty for a table that is open.
    """

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
    """A page.

    Args:
        subtitle: what was trained, and when.
        answer: the figure that matters most; may be empty.
        facts: names and values to show next.
        command: the command that made the run; may be empty.
    """

    title: str
    subtitle: str
    answer: str
    verdict: Sequence[str]
    facts: Sequence[tuple[str, str]]
    sections: Sequence[Section]
    command: str = ""


def render(page: Page) -> str:
    """Return a page as one HTML file that refers to nothing outside itself."""
    template = (resources.files(__package__) / "_page.html.jinja").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, finalize=_shown)
    return environment.from_string(template).render(page=page)


def _shown(value: Any) -> Any:
    """Return a value of the template; control characters in texts become visible."""
    return printable(value) if type(value) is str else value


def picture(title: str, draw: Callable[[Path], None]) -> Picture:
    """Return what a function draws into an SVG file as a picture."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "figure.svg"
        draw(path)
        data = base64.b64encode(path.read_bytes()).decode()
    return Picture(title, f"data:image/svg+xml;base64,{data}")


def all_columns(rows: Sequence[Row], fold: str, names: bool = True) -> Table:
    """Return rows as a folded table of all their columns; with ``names``, columns get a readable name."""
    columns = list(dict.fromkeys(column for row in rows for column in row))

    def cell(column: str, value: Any) -> str:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return format_value(value * COLUMN_TITLES.get(column, ("", 1))[1] if is_number else value)

    return Table(
        [column_title(column) if names else column for column in columns],
        [[cell(column, row.get(column, math.nan)) for column in columns] for row in rows],
        fold,
    )


def entries_section(title: str, entries: Mapping[str, Any]) -> list[Section]:
    """Return a section with a folded table of nested entries, if there are any."""
    return [Section(title, tables=[Table((), entry_texts(entries), "all entries")])] if entries else []
