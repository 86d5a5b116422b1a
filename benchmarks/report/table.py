"""Every figure as CSV."""

import csv
from collections.abc import Sequence
from pathlib import Path

from .figures import Figure

COLUMNS = (
    "part", "network", "width", "batch", "time_steps", "size", "precision", "allocator", "contender", "quantity",
    "unit", "median", "lowest", "highest", "samples", "ratio_to_lower_bound", "ratio_to_best_peer", "best_peer",
    "above_lower_bound",
)  # fmt: skip


def write_csv(path: Path, figures: Sequence[Figure]) -> None:
    """Write one row a contender and quantity; ``above_lower_bound`` is the median minus that of the lower bound."""
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for f in figures:
            cell = f.cell
            values = (
                cell.part, cell.network, cell.width, cell.batch, cell.time_steps, cell.size, cell.precision,
                f.allocator, f.contender, f.quantity, f.unit, f.median, f.lowest, f.highest, f.samples,
                f.to_lower_bound, f.to_peer, f.best_peer, None if f.lower_bound is None else f.median - f.lower_bound,
            )  # fmt: skip
            writer.writerow(["" if v is None else f"{v:.6g}" if isinstance(v, float) else v for v in values])
