"""``shortcut-snn report``: one HTML page on a run or a comparison that needs nothing but itself."""

import argparse
from pathlib import Path

from ...files import write_text
from ...training import RunFolder
from .comparison_page import COMPARISON, comparison_page
from .html import render
from .run_page import run_page

HELP = "write an HTML page on a run or a comparison"
DESCRIPTION = (
    "Write one HTML page on a run or a comparison, with all its pictures in it: it opens from disk in any browser."
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("folder", help="folder of a run or a comparison")
    parser.add_argument("--out", default=None, help="the page; report.html in the folder by default")


def run(options: argparse.Namespace) -> int:
    """Write the page and say where."""
    print(f"written: {write_page(Path(options.folder), Path(options.out) if options.out else None)}")
    return 0


def write_page(folder: Path, path: Path | None = None) -> Path:
    """Write the page.

    Args:
        folder: of a run, finished or not, or of a comparison.
        path: of the page; by default ``report.html`` in the folder.

    Returns:
        Where the page is.

    Raises:
        FileNotFoundError: the folder holds neither, or a run whose first epoch is not over.
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
