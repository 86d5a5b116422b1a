"""From sections to a page of HTML."""

import math
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from ...runs.tables import COLUMNS, human, show
from .reading import Row


@dataclass(frozen=True)
class Table:
    """Columns and rows of text."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    title: str
    text: str = ""
    pictures: Sequence[Markup] = ()
    table: Table | None = None
    folded: bool = False
    """Whether the table is shown only when a reader asks for it."""


@dataclass(frozen=True)
class Page:
    """A whole page."""

    title: str
    subtitle: str
    facts: Sequence[tuple[str, str]]
    """What to see first: name and value."""
    sections: Sequence[Section]
    verdict: Sequence[str] = ()
    """What came out, in sentences."""
    origin: str = ""
    """When and from what it was made."""
    command: str = ""
    """What was typed for it."""


def render(page: Page) -> str:
    """Return the page as HTML that refers to nothing outside itself."""
    template = (resources.files(__package__) / "page.html.jinja").read_text(encoding="utf-8")
    return Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(template).render(page=page)


def picture(name: str, draw: Callable[[Path], None]) -> Markup:
    """Return what a plotting function draws as SVG to stand in a page.

    Args:
        name: tells the names inside this picture from those in others on the page.
        draw: takes the path of the file to draw.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.svg"
        draw(path)
        svg = path.read_text(encoding="utf-8")
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(href="|url\()#', rf"\1#{name}-", svg)
    # The page, not the file, says how large it is.
    svg = re.sub(r'<svg([^>]*?) width="[^"]*"', rf'<svg role="img" aria-label="{name}"\1', svg, count=1)
    svg = re.sub(r'<svg([^>]*?) height="[^"]*"', r"<svg\1", svg, count=1)
    return Markup(svg)


def all_columns(rows: Sequence[Row], names: bool = True) -> Table:
    """Return rows as a table of all their columns.

    Args:
        rows: of numbers and text.
        names: whether columns have a person's names; those that are layers keep theirs.
    """
    columns = list(dict.fromkeys(column for row in rows for column in row))

    def cell(column: str, value: Any) -> str:
        if isinstance(value, str):
            return value
        return show(value * COLUMNS.get(column, ("", 1))[1])

    return Table(
        [human(column) if names else column for column in columns],
        [[cell(column, row.get(column, math.nan)) for column in columns] for row in rows],
    )
