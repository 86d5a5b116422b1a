"""``shortcut-snn report``: one HTML page on a run or a comparison that needs nothing but itself."""

from collections.abc import Callable
from pathlib import Path

from ...files import write_text
from ..resume import RECIPE
from .comparison_page import COMPARISON, comparison_page
from .html import render
from .run_page import run_page


def write_page(folder: Path, path: Path | None = None, tell: Callable[[str], None] = print) -> Path:
    """Write the page.

    Args:
        folder: of a run, finished or not, or of a comparison.
        path: of the page; by default ``report.html`` in the folder.
        tell: takes a line for a person.

    Returns:
        Where the page is.

    Raises:
        FileNotFoundError: the folder holds neither, or a run whose first epoch is not over.
        ValueError: one of its files is damaged.
    """
    if (folder / RECIPE).is_file():
        page = run_page(folder)
    elif (folder / COMPARISON).is_file():
        page = comparison_page(folder)
    else:
        raise FileNotFoundError(f"{folder} holds neither a run (no {RECIPE}) nor a comparison (no {COMPARISON})")
    path = folder / "report.html" if path is None else path
    write_text(path, render(page))
    tell(f"written: {path}")
    return path
