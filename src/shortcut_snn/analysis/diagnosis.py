"""A network examined, judged, and given tips that were measured on it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

from .layers import Batch, Examination, LayerReport, Loss, cross_entropy, examine
from .probe import Reset
from .remedies import of_branches, of_neurons
from .tips import Remedy, Setup, Tip, tips
from .verdict import Verdict, judge


@dataclass(frozen=True)
class Diagnosis:
    """Layers, verdict and tips; as text, what to tell a person."""

    examination: Examination
    verdict: Verdict
    tips: tuple[Tip, ...]

    @property
    def layers(self) -> tuple[LayerReport, ...]:
        """Every spiking layer on the first batch, from input to output."""
        return self.examination.layers

    def __str__(self) -> str:
        """Return the verdict, and a line for each tip."""
        if self.tips:
            return "\n".join([self.verdict.sentence, "measured on this network, try first:", *_lines(self.tips)])
        rest = "" if self.verdict.kind == "healthy" else "; of the remedies tried on it none helps"
        return self.verdict.sentence + rest


def _lines(found: Iterable[Tip]) -> list[str]:
    return [f"  {tip}" for tip in found]


def diagnose(
    network: nn.Module,
    batches: Sequence[Batch],
    loss: Loss = cross_entropy,
    *,
    time_axis: int | Literal["auto"] | None = "auto",
    reset: Reset | None = None,
) -> Diagnosis:
    """Say whether a network's gradient vanishes or explodes, whether layers are dead, and what helps.

    Args:
        network: any with neurons of this library, SpikingJelly, snnTorch or Norse. It is left as it was.
        batches: pairs of inputs and labels; the first one's figures are told, and a tip has to help on all.
        loss: takes the network's output and the labels; cross-entropy of logits ``[N, classes]`` by default.
        time_axis: where time lies in what a branch would tap: 0 for ``[T, N, ...]``, None where the network calls its
            layers at every time step; by default as its neurons are called.
        reset: called before each batch, for networks that keep a state; by default that of the library that the
            neurons come from.

    Raises:
        ValueError: no batches, or no neurons that it knows.

    Example:
        >>> import torch
        >>> from shortcut_snn import nets
        >>> network, batch = nets.spiking_resnet20(10, 2, width=4), (torch.rand(2, 3, 8, 8), torch.tensor([1, 2]))
        >>> diagnose(network, [batch]).verdict.kind in ("healthy", "vanishes", "explodes", "silent")
        True
    """
    setup = Setup(network, loss)

    def tried() -> list[Remedy]:
        return of_neurons(setup, batches) + of_branches(setup, batches, reset, time_axis)

    return of_setup(setup, batches, tried, reset=reset)


def of_setup(
    setup: Setup,
    batches: Sequence[Batch],
    tried: Callable[[], Iterable[Remedy]],
    *,
    reset: Reset | None = None,
) -> Diagnosis:
    """Diagnose what runs, with remedies of the caller's, which are asked for if something is wrong."""
    found = examine(setup.model, batches, setup.loss, network=setup.network, reset=reset)
    verdict = judge(found.layers)
    if verdict.kind == "healthy":
        return Diagnosis(found, verdict, ())
    return Diagnosis(found, verdict, tuple(tips(found, tried(), batches, reset=reset)))
