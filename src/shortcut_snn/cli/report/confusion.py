"""Which classes a network confuses, from ``confusion.csv``."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ...diagnosis import share_interval
from .page import Section, Table, picture
from .reading import read_rows

MAX_MATRIX = 20
"""A matrix of more classes cannot be read."""


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

    def section(self) -> Section:
        """Return the section on classes: the matrix, if it can be read, and the classes from worst to best."""
        rows = []
        for label in self.classes:
            predicted = {taken: self.counts[label, taken] for taken in self.classes if self.counts[label, taken]}
            total = sum(predicted.values())
            share = predicted.get(label, 0) / max(total, 1)
            count, taken = max(
                ((count, taken) for taken, count in predicted.items() if taken != label), default=(0, "")
            )
            confused = f"{taken} ({count})" if count else "-"
            rows.append((share, [label, f"{total:,}", f"{100 * share:.1f}", confused]))
        cells = [row for _, row in sorted(rows, key=lambda pair: pair[0])]
        table = Table(["class", "test samples", "accuracy, %", "most often predicted as"], cells, "accuracy by class")
        few = len(self.classes) <= MAX_MATRIX
        pictures = [picture("Confusion matrix, test samples", self.draw)] if few else []
        return Section("Classes", pictures=pictures, tables=[table])

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


def read_confusion(path: Path) -> Confusion | None:
    """Return the counts in a file; None if the file does not exist.

    Raises:
        ValueError: the file is damaged.
    """
    rows = read_rows(path, ["count"], ["class", "predicted"])
    if any(not 1 <= row["count"] < math.inf for row in rows):
        raise ValueError(f"{path} is damaged: a count is not a number of samples")
    counts = Counter({(row["class"], row["predicted"]): int(row["count"]) for row in rows})
    # Rows are in the order of labels; a class without test samples comes last.
    names = [*(row["class"] for row in rows), *(row["predicted"] for row in rows)]
    return Confusion(counts, list(dict.fromkeys(names))) if rows else None
