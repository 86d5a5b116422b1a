"""Diagnose a network: examine its layers, judge them, and recommend remedies that were measured to help."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from torch import nn

from ..method import Reset
from .layers import Batch, Examination, LayerReport, Loss, check_can_examine, default_loss
from .remedies import neuron_remedies
from .tips import Remedy, Setup, Tip, measure_remedies
from .verdict import Verdict, judge
from .wrapping import wrapped_copy

NO_PROMISE = "A healthy start does not promise accuracy: compare in training"


@dataclass(frozen=True)
class Diagnosis:
    """Layers, verdict and tips. ``str`` returns the verdict, the tips, one per line, and what they do not promise."""

    examination: Examination
    verdict: Verdict
    tips: tuple[Tip, ...] = ()
    measured: int = 0
    """Number of remedies that were measured."""

    @property
    def layers(self) -> tuple[LayerReport, ...]:
        """The reports of the first batch, from input to output."""
        return self.examination.layers

    def __str__(self) -> str:
        """Return the verdict, and a line for each tip."""
        sentence = self.verdict.sentence
        if self.verdict.kind == "healthy":
            return f"{sentence}. {NO_PROMISE}"
        if self.tips:
            return "\n".join(
                [sentence, "measured on this network, try first:", *(f"  {tip}" for tip in self.tips), NO_PROMISE]
            )
        if self.measured:
            return f"{sentence}; none of the {self.measured} remedies measured on it helps"
        return f"{sentence}; no remedy is known for it"


def diagnose(
    network: nn.Module,
    batches: Sequence[Batch],
    loss: Loss = default_loss,
    *,
    reset: Reset | None = None,
) -> Diagnosis:
    """Return whether the gradient vanishes or explodes, the input is lost, or layers are dead, and what helps.

    A copy is examined; the network is left unchanged. The time loop, the reset and the logits are inferred as in
    :func:`shortcut_snn.attach`.

    Args:
        network: a network with built-in neurons or those of SpikingJelly, snnTorch or Norse, or a wrapper of
            :func:`shortcut_snn.attach`. Pass the wrapper to specify what cannot be inferred.
        batches: pairs of inputs and labels. The verdict is that of the first batch; a tip has to help on all of them.
        loss: takes the network's output, of all time steps if it computes one per call, and the labels. The default is
            the cross-entropy of the logits ``[N, classes]``, or the squared error for targets that are not classes. The
            loss of a wrapper takes the wrapper's output.
        reset: resets the neurons before each batch; inferred by default.

    Raises:
        ValueError: there are no batches or no known neurons, or a property of the network cannot be inferred.

    Example:
        >>> import torch
        >>> from shortcut_snn import nets
        >>> network, batch = nets.spiking_resnet8(10, 2, width=4), (torch.rand(2, 3, 8, 8), torch.tensor([1, 2]))
        >>> diagnose(network, [batch]).verdict.kind in ("healthy", "lost", "vanishes", "explodes", "silent")
        True
    """
    check_can_examine(network, batches)
    setup = wrapped_copy(network, batches[0], loss, reset)
    return diagnose_setup(setup, batches, partial(neuron_remedies, setup, batches))


def diagnose_setup(setup: Setup, batches: Sequence[Batch], make_remedies: Callable[[], Iterable[Remedy]]) -> Diagnosis:
    """Diagnose a wrapped network with some remedies, which are made only if something is wrong."""
    examination = setup.examine(batches)
    verdict = judge(examination.layers)
    if verdict.kind == "healthy":
        return Diagnosis(examination, verdict)
    tips, measured = measure_remedies(examination, make_remedies(), batches)
    return Diagnosis(examination, verdict, tuple(tips), measured)
