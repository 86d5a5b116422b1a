"""Writes the report's files."""

from pathlib import Path

from ..results import Store
from .chart import draw
from .figures import figures
from .markdown import about_lines, markdown
from .table import write_csv


def write(store: Store, folder: Path) -> list[Path]:
    """Write ``benchmark.md``, ``benchmark.csv`` and, if anything was measured, ``benchmark.png``."""
    results = store.read()
    found = figures(results)
    written = [folder / "benchmark.md", folder / "benchmark.csv"]
    written[0].write_text(markdown(results, found))
    write_csv(written[1], found)
    if found:
        written.append(folder / "benchmark.png")
        draw(written[-1], found, about_lines(results))
    return written
