"""Measure remedies on a network and recommend those that help."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ..introspection.probe import CALL_ERRORS
from ..measurement import Examination
from ..measurement.layers import Batch
from ..measurement.setup import Setup
from .verdict import Verdict, judge

GRADIENT_ONLY = ("width", "detach_reset")
"""Groups of remedies that do not change the spikes."""
FIRST = ("block", "preset", "initialise")
"""Groups whose remedies come first: in training they were worth most, whatever the gradient's size."""


@dataclass(frozen=True)
class Remedy:
    """A change that may help. Of each group only the best is recommended."""

    group: str
    text: str
    apply: Callable[[], Setup]


@dataclass(frozen=True)
class Tip:
    """A remedy that helped, with the verdicts on the first batch before and after it."""

    text: str
    before: Verdict
    after: Verdict

    def __str__(self) -> str:
        """Return the remedy and its effect in one line."""
        effect = f"gradient, first layer / last {self.before.factor:.3g} -> {self.after.factor:.3g}"
        if self.before.lost or self.after.lost:
            effect += f", input lost in {100 * self.before.lost:.0f} -> {100 * self.after.lost:.0f} % of the layers"
        return f"{self.text}: {effect} ({self.after.kind})"


def measure_remedies(
    before: Examination, remedies: Iterable[Remedy], batches: Sequence[Batch]
) -> tuple[list[Tip], int]:
    """Return the best remedy of each group that helps on every batch, and how many were measured.

    Those of :data:`FIRST` come first, then those that keep the input in most layers, then those that bring the
    gradient's factor nearest to 1.

    Args:
        remedies: the changes to try. Those that cannot be applied to the network are left out. If neurons are silent or
            saturated, or only the input is lost, so are those that change the gradient alone.
    """
    verdicts = [judge(layers) for layers in before.batches]
    if verdicts[0].kind in ("silent", "saturated", "lost"):
        remedies = [remedy for remedy in remedies if remedy.group not in GRADIENT_ONLY]
    best: dict[str, Tip] = {}
    measured = 0
    for remedy in remedies:
        try:
            after = remedy.apply().examine(batches)
        except CALL_ERRORS:
            continue
        measured += 1
        new_verdicts = [judge(layers) for layers in after.batches]
        if not all(_helps(old, new) for old, new in zip(verdicts, new_verdicts, strict=True)):
            continue
        tip = Tip(remedy.text, verdicts[0], new_verdicts[0])
        if remedy.group not in best or _order(tip) < _order(best[remedy.group]):
            best[remedy.group] = tip
    groups = sorted(best, key=lambda group: (*(group != first for first in FIRST), *_order(best[group])))
    return [best[group] for group in groups], measured


def _order(tip: Tip) -> tuple[float, float]:
    # A tenth of the layers more or less is chance in a small batch.
    return round(tip.after.lost, 1), tip.after.distance


def _helps(before: Verdict, after: Verdict) -> bool:
    """Return whether dead layers come alive, or one measure halves its distance and the other gets no worse.

    A change that was made already does not halve a distance again, so no tip leads back to itself.
    """
    if after.is_dead:
        return False
    keeps_gradient = after.distance <= max(before.distance, 1.0)
    keeps_input = after.lost <= before.lost + 0.1
    forwards = before.lost > 0 and after.lost <= before.lost / 2 and keeps_gradient
    backwards = before.distance > 1 and after.distance <= before.distance / 2 and keeps_input
    return before.is_dead or forwards or backwards
