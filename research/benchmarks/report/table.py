"""Every figure as CSV."""

import csv
from collections.abc import Sequence
from pathlib import Path

from .figures import Figure

COLUMNS = (
    "part", "network", "width", "batch", "time_steps", "size", "precision", "rate", "contender", "quantity",
    "unit", "median", "lowest", "highest", "samples", "ratio_to_dense", "ratio_to_best_peer", "best_peer",
)  # fmt: skip


def write_csv(path: Path, figures: Sequence[Figure]) -> None:
    """Write one row for a contender and quantity."""
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for f in figures:
            cell = f.cell
            values = (
                cell.part, cell.network, cell.width, cell.batch, cell.time_steps, cell.size, cell.precision, cell.rate,
                f.contender, f.quantity, f.unit, f.median, f.lowest, f.highest, f.samples,
                f.to_dense, f.to_peer, f.best_peer,
            )  # fmt: skip
            writer.writerow(["" if v is None else f"{v:.6g}" if isinstance(v, float) else v for v in values])
