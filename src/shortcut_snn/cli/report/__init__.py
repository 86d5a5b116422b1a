"""``shortcut-snn report``: one self-contained HTML page of a run or a comparison."""

import argparse
from pathlib import Path

from ..._utils.files import remove_strays, write_text
from ...training import RunFolder
from ..compare import DESCRIPTION
from .comparison_page import comparison_page
from .page import render
from .run_page import run_page

__all__ = ["write_page"]


def run(options: argparse.Namespace) -> int:
    """Write the page and print its path."""
    print(f"written: {write_page(Path(options.folder), Path(options.out) if options.out else None)}")
    return 0


def write_page(folder: Path, path: Path | None = None) -> Path:
    """Write the page of a run, finished or not, or of a comparison, by default as ``report.html`` in its folder."""
    run = RunFolder(folder)
    if path is not None and path.is_dir():
        raise ValueError(f"{path} is a folder: name a file for the page, as in {path / 'report.html'}")
    if not run.is_run and not (folder / DESCRIPTION).is_file():
        raise FileNotFoundError(
            f"{folder} holds neither a run (no {run.recipe.name}) nor a comparison (no {DESCRIPTION})"
        )
    try:
        page = run_page(run) if run.is_run else comparison_page(folder)
    except (KeyError, TypeError, AttributeError) as error:
        # A column or a number that is missing in a file that was edited by hand.
        raise ValueError(f"a table in {folder} is damaged ({type(error).__name__}: {error})") from error
    path = folder / "report.html" if path is None else path
    remove_strays(path.parent)
    write_text(path, render(page))
    return path
