"""Which classes a network tells apart, from ``confusion.csv``."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from ...diagnosis.statistics import share_interval
from .html import Section, Table
from .reading import read_rows

MATRIX = 20
"""The matrix of more classes than this cannot be read: their lists say more."""
LISTED = 10


@dataclass(frozen=True)
class Confusion:
    """How often each class was taken for which.

    Args:
        counts: of (class, predicted class); pairs that never came are left out.
        classes: names, in the order of their labels as far as that is known.
    """

    counts: Counter[tuple[str, str]]
    classes: Sequence[str]

    @property
    def samples(self) -> int:
        """How many samples there were."""
        return sum(self.counts.values())

    @property
    def right(self) -> int:
        """How many of them were taken for what they are."""
        return sum(count for (label, taken), count in self.counts.items() if label == taken)

    @property
    def interval(self) -> tuple[float, float]:
        """What the accuracy may be on other samples like these, with 95 % confidence."""
        return share_interval(self.right, self.samples)


def read_confusion(path: Path) -> Confusion | None:
    """Return what the file says, None where there is none.

    Raises:
        ValueError: it is damaged.
    """
    rows = read_rows(path, ["count"], ["class", "predicted"])
    if not rows:
        return None
    if any(not row["count"] >= 1 or not math.isfinite(row["count"]) for row in rows):
        raise ValueError(f"{path} is damaged: a count is no number of samples")
    counts = Counter({(row["class"], row["predicted"]): int(row["count"]) for row in rows})
    # Rows come in the order of labels; a class that is only ever guessed wrongly stands at the end.
    return Confusion(
        counts, list(dict.fromkeys([*(row["class"] for row in rows), *(row["predicted"] for row in rows)]))
    )


def by_class(found: Confusion | None) -> list[Section]:
    """Return a section on the classes."""
    if found is None:
        return []
    few = len(found.classes) <= MATRIX
    rows = []
    for label in found.classes:
        row = {taken: found.counts[label, taken] for taken in found.classes if found.counts[label, taken]}
        total = sum(row.values())
        if not total:
            continue
        wrong = max(((count, taken) for taken, count in row.items() if taken != label), default=(0, ""))
        share = found.counts[label, label] / total
        rows.append(
            (share, [label, f"{total:,}", f"{100 * share:.1f}", f"{wrong[1]} ({wrong[0]})" if wrong[0] else "-"])
        )
    columns = ["class", "test samples", "accuracy, %", "most often taken for"]
    worst = [row for _, row in sorted(rows, key=lambda pair: pair[0])]
    pairs = [(count, *pair) for pair, count in found.counts.items() if pair[0] != pair[1]]
    confused = [[label, taken, f"{count:,}"] for count, label, taken in sorted(pairs, key=lambda each: -each[0])]
    if few:
        tables = [Table(columns, [row for _, row in rows], "accuracy by class")]
        text = "Rows are what an image is, columns what it was taken for."
        return [Section("Classes", text, [matrix(found)], tables)]
    lists = [Table(columns, worst[:LISTED]), Table(["class", "taken for", "times"], confused[:LISTED])]
    text = f"The {LISTED} classes with the lowest accuracy, and what was confused most often."
    return [Section("Classes", text, tables=[*lists, Table(columns, worst, "all classes")])]


def matrix(found: Confusion) -> Markup:
    """Return the confusion matrix as a table whose cells are the darker the more there is in them."""
    head = Markup("").join(Markup('<th scope="col">{}</th>').format(name) for name in found.classes)
    lines = []
    for label in found.classes:
        total = sum(found.counts[label, taken] for taken in found.classes) or 1
        cells = []
        for taken in found.classes:
            count = found.counts[label, taken]
            share = count / total
            cells.append(
                Markup('<td class="{}" style="--share:{:.0f}%" title="{}">{}</td>').format(
                    "right" if label == taken else "wrong",
                    # So that a few mistakes are seen, too.
                    70 * math.sqrt(share) if label != taken else 60 * share,
                    f"{label} taken for {taken}: {count} of {total} ({100 * share:.1f} %)",
                    count or "",
                )
            )
        lines.append(Markup('<tr><th scope="row">{}</th>{}</tr>').format(label, Markup("").join(cells)))
    return Markup(
        '<figure><figcaption>confusion matrix, test samples</figcaption><div class="scroll"><table class="confusion">'
        "<thead><tr><th></th>{}</tr></thead><tbody>{}</tbody></table></div></figure>"
    ).format(head, Markup("").join(lines))
