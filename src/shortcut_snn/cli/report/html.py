"""From sections to a page of HTML."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from ...training import COLUMN_TITLES, column_title, format_value
from .reading import Row


@dataclass(frozen=True)
class Table:
    """Columns and rows of text.

    Args:
        columns: their names; none: there is no head.
        rows: of text each.
        fold: what opens it, where it is shown only when a reader asks for it.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    fold: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the page: text, pictures side by side, tables below."""

    title: str
    text: str = ""
    pictures: Sequence[Markup] = ()
    tables: Sequence[Table] = ()


@dataclass(frozen=True)
class Page:
    """A whole page."""

    title: str
    subtitle: str
    answer: str
    """The figure that matters most."""
    verdict: Sequence[str]
    """What came out, in sentences."""
    facts: Sequence[tuple[str, str]]
    """What to see next: name and value."""
    sections: Sequence[Section]
    origin: str = ""
    """When and from what it was made."""
    command: str = ""
    """What was typed for it."""


def render(page: Page) -> str:
    """Return the page as HTML that refers to nothing outside itself."""
    template = (resources.files(__package__) / "page.html.jinja").read_text(encoding="utf-8")
    return Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(template).render(page=page)


def all_columns(rows: Sequence[Row], fold: str, names: bool = True) -> Table:
    """Return rows as a table of all their columns.

    Args:
        rows: of numbers and text.
        fold: see :class:`Table`.
        names: whether columns have a person's names; those that are layers keep theirs.
    """
    columns = list(dict.fromkeys(column for row in rows for column in row))

    def cell(column: str, value: Any) -> str:
        return value if isinstance(value, str) else format_value(value * COLUMN_TITLES.get(column, ("", 1))[1])

    return Table(
        [column_title(column) if names else column for column in columns],
        [[cell(column, row.get(column, math.nan)) for column in columns] for row in rows],
        fold,
    )
