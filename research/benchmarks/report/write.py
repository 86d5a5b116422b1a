"""Writes the report's files."""

from pathlib import Path

from ..results import Store
from .chart import draw, draw_rates
from .figures import figures
from .markdown import about_lines, markdown
from .table import write_csv


def write(store: Store, folder: Path) -> list[Path]:
    """Write ``benchmark.md``, ``benchmark.csv``, and ``benchmark.png`` and ``rates.png`` of what was measured."""
    results = store.read()
    found = figures(results)
    written = [folder / "benchmark.md", folder / "benchmark.csv"]
    written[0].write_text(markdown(results, found))
    write_csv(written[1], found)
    initial = [figure for figure in found if figure.cell.rate is None]
    rated = [figure for figure in found if figure.cell.rate is not None]
    if initial:
        written.append(folder / "benchmark.png")
        draw(written[-1], initial, about_lines(results))
    if rated:
        written.append(folder / "rates.png")
        draw_rates(written[-1], rated, about_lines(results))
    return written
