"""What to try first: each remedy is measured on the very network, and one that does not help is not given."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from ..introspection import CALL_ERRORS
from .layers import Batch, Examination, Loss, examine
from .verdict import Verdict, judge


@dataclass(frozen=True)
class Setup:
    """Something to run: a model, a loss of its output, and the network in it, if that is not the model itself."""

    model: nn.Module
    loss: Loss
    inner: nn.Module | None = None

    @property
    def network(self) -> nn.Module:
        """The part whose layers are looked at."""
        return self.model if self.inner is None else self.inner


@dataclass(frozen=True)
class Remedy:
    """A change, and what runs after it; of a group only the best is recommended."""

    group: str
    text: str
    apply: Callable[[], Setup]


@dataclass(frozen=True)
class Tip:
    """A remedy that was measured to help."""

    text: str
    before: Verdict
    after: Verdict

    def __str__(self) -> str:
        """Say it with its figures, those of the first batch."""
        figures = f"first layer / last {self.before.factor:.3g} -> {self.after.factor:.3g}"
        return f"{self.text}: {figures} ({self.after.kind})"


def tips(
    before: Examination, remedies: Iterable[Remedy], batches: Sequence[Batch], **options: Any
) -> tuple[list[Tip], int]:
    """Measure remedies and return those that help on every batch, the best first, and how many could be measured.

    A healthy network needs none; for others see :func:`helps`.

    Args:
        before: the network as it is.
        remedies: what to try; each is built, measured and dropped; one that the network is not made for is left out.
        batches: those that were examined.
        options: of :func:`~.layers.examine`.
    """
    old = [judge(layers) for layers in before.batches]
    if all(verdict.kind == "healthy" for verdict in old):
        return [], 0
    best: dict[str, Tip] = {}
    measured = 0
    for remedy in remedies:
        try:
            setup = remedy.apply()
            after = examine(setup.model, batches, setup.loss, network=setup.network, **options)
        except CALL_ERRORS:
            continue
        measured += 1
        new = [judge(layers) for layers in after.batches]
        known = best.get(remedy.group)
        better = known is None or new[0].distance < known.after.distance
        if better and all(helps(*pair) for pair in zip(old, new, strict=True)):
            best[remedy.group] = Tip(remedy.text, old[0], new[0])
    return sorted(best.values(), key=lambda tip: tip.after.distance), measured


def helps(before: Verdict, after: Verdict) -> bool:
    """Say whether a change is a measurable improvement.

    Dead layers have to live again. Otherwise the factor from first to last layer has to come nearer to 1 by half its
    distance in orders of magnitude.
    """
    dead = ("silent", "saturated", "no gradient")
    if before.kind in dead:
        return after.kind not in dead
    return after.kind not in dead and after.distance <= before.distance / 2
