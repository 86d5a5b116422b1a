"""``shortcut-snn report``: one self-contained HTML page of a run or a comparison."""

import argparse
from pathlib import Path

from ...files import write_text
from ...training import RunFolder
from .comparison_page import COMPARISON, comparison_page
from .page import Page, Picture, Section, Table, all_columns, entries_section, picture, render
from .reading import read_rows
from .run_page import run_page

__all__ = [
    "Page",
    "Picture",
    "Section",
    "Table",
    "all_columns",
    "entries_section",
    "picture",
    "read_rows",
    "render",
    "write_page",
]


def run(options: argparse.Namespace) -> int:
    """Write the page and print its path."""
    print(f"written: {write_page(Path(options.folder), Path(options.out) if options.out else None)}")
    return 0


def write_page(folder: Path, path: Path | None = None) -> Path:
    """Write the page of a run or a comparison.

    Args:
        folder: of a run, finished or not, or of a comparison.
        path: of the page; by default ``report.html`` in the folder.

    Returns:
        The path of the page.

    Raises:
        FileNotFoundError: the folder holds neither, or a run that has not finished its first epoch.
        ValueError: one of its files is damaged.
    """
    run = RunFolder(folder)
    if run.is_run:
        page = run_page(run)
    elif (folder / COMPARISON).is_file():
        page = comparison_page(folder)
    else:
        raise FileNotFoundError(
            f"{folder} holds neither a run (no {run.recipe.name}) nor a comparison (no {COMPARISON})"
        )
    path = folder / "report.html" if path is None else path
    write_text(path, render(page))
    return path
