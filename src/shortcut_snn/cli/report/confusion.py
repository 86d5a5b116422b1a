"""Which classes a network confuses, from ``confusion.csv``."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ...diagnosis.statistics import share_interval
from .page import Section, Table, picture
from .reading import read_rows

MAX_MATRIX = 20
"""A matrix of more classes cannot be read."""
LISTED = 10


@dataclass(frozen=True)
class Confusion:
    """How often test samples of each class were predicted as which class.

    Args:
        counts: by class and predicted class.
        classes: their names.
    """

    counts: Counter[tuple[str, str]]
    classes: Sequence[str]

    @property
    def samples(self) -> int:
        """The number of test samples."""
        return sum(self.counts.values())

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval of the accuracy."""
        return share_interval(sum(self.counts[label, label] for label in self.classes), self.samples)

    def draw(self, path: Path) -> None:
        """Draw the confusion matrix; colours are shares of a class's samples."""
        matrix = np.array([[self.counts[label, taken] for taken in self.classes] for label in self.classes])
        shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
        size = len(self.classes)
        figure = Figure(figsize=(3.0 + 0.36 * size, 2.2 + 0.32 * size), layout="constrained")
        axes = figure.subplots()
        image = axes.imshow(100 * shares, cmap="Blues", vmin=0, vmax=100)
        for (row, column), count in np.ndenumerate(matrix):
            if count:
                colour = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize="small")
        axes.set_xticks(range(size), self.classes, rotation=90)
        axes.set_yticks(range(size), self.classes)
        axes.set(xlabel="predicted class", ylabel="class")
        figure.colorbar(image, label="share of the class, %")
        figure.savefig(path, metadata={"Date": None})

    def section(self) -> Section:
        """Return the section on classes: the matrix of a few classes, or the lists of what goes wrong most."""
        columns = ["class", "test samples", "accuracy, %", "most often predicted as"]
        rows = sorted((self._class_row(label) for label in self.classes if self._total(label)), key=lambda row: row[0])
        if len(self.classes) <= MAX_MATRIX:
            in_order = sorted(rows, key=lambda row: self.classes.index(row[1][0]))
            table = Table(columns, [cells for _, cells in in_order], "accuracy by class")
            return Section("Classes", pictures=[picture("Confusion matrix, test samples", self.draw)], tables=[table])
        wrong = sorted(((count, pair) for pair, count in self.counts.items() if pair[0] != pair[1]), reverse=True)
        confused = [[label, taken, f"{count:,}"] for count, (label, taken) in wrong[:LISTED]]
        worst = [cells for _, cells in rows]
        text = f"The {LISTED} classes with the lowest accuracy, and the most frequent confusions."
        tables = [Table(columns, worst[:LISTED]), Table(["class", "predicted as", "times"], confused)]
        return Section("Classes", text, tables=[*tables, Table(columns, worst, "all classes")])

    def _total(self, label: str) -> int:
        return sum(self.counts[label, taken] for taken in self.classes)

    def _class_row(self, label: str) -> tuple[float, list[str]]:
        """Return the accuracy of a class, and its row of the table."""
        total = self._total(label)
        share = self.counts[label, label] / total
        wrong = [(self.counts[label, taken], taken) for taken in self.classes if taken != label]
        count, taken = max(wrong, default=(0, ""))
        most = f"{taken} ({count})" if count else "-"
        return share, [label, f"{total:,}", f"{100 * share:.1f}", most]


def read_confusion(path: Path) -> Confusion | None:
    """Return the counts in a file; None if there is no file.

    Raises:
        ValueError: the file is damaged.
    """
    rows = read_rows(path, ["count"], ["class", "predicted"])
    if not rows:
        return None
    if any(not 1 <= row["count"] < math.inf for row in rows):
        raise ValueError(f"{path} is damaged: a count is not a number of samples")
    counts = Counter({(row["class"], row["predicted"]): int(row["count"]) for row in rows})
    # Rows are in the order of labels; a class without test samples comes last.
    names = [*(row["class"] for row in rows), *(row["predicted"] for row in rows)]
    return Confusion(counts, list(dict.fromkeys(names)))
