"""Diagnose a network: examine its layers, judge them, and recommend remedies that were measured to help."""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from .._utils.calls import Reset, uncompiled
from ..components.entries import write
from ..components.registry import is_component
from ..initialisation import initialise
from ..initialisation.surrogates import set_surrogate
from ..introspection.layers import NORMS, is_layer
from ..introspection.neurons import custom_neurons, find_neurons
from ..introspection.probe import CALL_ERRORS
from ..measurement import Examination, LayerReport
from ..measurement.layers import Batch, Loss, check_can_examine
from ..measurement.setup import Setup, wrapped_copy
from ..method.targets import default_loss
from ..neurons import LIF, Neuron, Resizable
from .verdict import Verdict, judge

GRADIENT_ONLY = ("width", "detach_reset")
"""Groups of remedies that do not change the spikes."""
FIRST = ("block", "preset", "initialise")
"""Groups whose remedies come first: in training they were worth most, whatever the gradient's size."""
NO_PROMISE = "A healthy start does not promise accuracy: compare in training"


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
        effect = f"gradient, first layer / last {self.before.factor:.3g} -> {self.after.factor:.3g}"
        if self.before.lost or self.after.lost:
            effect += f", input lost in {100 * self.before.lost:.0f} -> {100 * self.after.lost:.0f} % of the layers"
        return f"{self.text}: {effect} ({self.after.kind})"


@dataclass(frozen=True, repr=False)
class Diagnosis:
    """Layers, verdict and tips. ``str`` returns the verdict, the tips, one per line, and their limits."""

    examination: Examination
    verdict: Verdict
    tips: tuple[Tip, ...] = ()
    measured: int = 0
    """Number of remedies that were measured."""

    @property
    def layers(self) -> tuple[LayerReport, ...]:
        """The reports of the first batch, from input to output."""
        return self.examination.layers

    def __repr__(self) -> str:
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
    spiking: type[nn.Module] | tuple[type[nn.Module], ...] = (),
) -> Diagnosis:
    """Return whether the gradient vanishes or explodes, the input is lost, or layers are dead, and what helps.

    A copy is examined; the network is left unchanged. The time loop, the reset and the logits are inferred as in
    :func:`shortcut_snn.attach`.

    Args:
        network: a network with built-in neurons or those of SpikingJelly, snnTorch or Norse, or a wrapper of
            :func:`shortcut_snn.attach`. Pass the wrapper to specify what cannot be inferred.
        batches: pairs of inputs and labels. The verdict is for the first batch; a tip has to help on every batch.
        loss: takes the network's output, of all time steps if it computes one per call, and the labels. The default is
            the cross-entropy of the logits ``[N, classes]``, or the squared error for targets that are not classes. The
            loss of a wrapper takes the wrapper's output.
        reset: resets the neurons before each batch; inferred by default.
        spiking: classes of custom neurons, whose first output is spikes.

    Raises:
        ValueError: there are no batches or no known neurons, a neuron serves several layers, or a property of the
            network cannot be inferred.

    Example:
        >>> import torch
        >>> from shortcut_snn import nets
        >>> network, batch = nets.spiking_resnet8(10, 2, width=4), (torch.rand(2, 3, 8, 8), torch.tensor([1, 2]))
        >>> diagnose(network, [batch]).verdict.kind in ("healthy", "lost", "vanishes", "explodes", "silent")
        True
    """
    network = uncompiled(network)
    with custom_neurons(spiking):
        check_can_examine(network, batches)
        setup = wrapped_copy(network, batches[0], loss, reset)
        return diagnose_setup(setup, batches, partial(neuron_remedies, setup, batches, spiking))


def diagnose_setup(setup: Setup, batches: Sequence[Batch], make_remedies: Callable[[], Iterable[Remedy]]) -> Diagnosis:
    """Diagnose a wrapped network with some remedies, which are made only if something is wrong.

    Of each group, the best remedy that helps on every batch becomes a tip. Those of :data:`FIRST` come first, then
    those that keep the input in most layers, then those that bring the gradient's factor nearest to 1.
    """
    examination = setup.examine(batches)
    verdicts = [judge(layers) for layers in examination.batches]
    if verdicts[0].kind == "healthy":
        return Diagnosis(examination, verdicts[0])
    # More gradient alone does not wake neurons, or bring back the input.
    left_out = GRADIENT_ONLY if verdicts[0].kind in ("silent", "saturated", "lost") else ()
    best: dict[str, Tip] = {}
    measured = 0
    for remedy in make_remedies():
        if remedy.group in left_out:
            continue
        try:
            after = remedy.apply().examine(batches)
        except CALL_ERRORS:
            # It cannot be applied to this network.
            continue
        measured += 1
        new_verdicts = [judge(layers) for layers in after.batches]
        if not all(_helps(old, new) for old, new in zip(verdicts, new_verdicts, strict=True)):
            continue
        tip = Tip(remedy.text, verdicts[0], new_verdicts[0])
        if remedy.group not in best or _order(tip) < _order(best[remedy.group]):
            best[remedy.group] = tip
    groups = sorted(best, key=lambda group: (*(group != first for first in FIRST), *_order(best[group])))
    return Diagnosis(examination, verdicts[0], tuple(best[group] for group in groups), measured)


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


WIDTHS = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 8.0)


def neuron_remedies(
    setup: Setup, batches: Sequence[Batch], spiking: type[nn.Module] | tuple[type[nn.Module], ...] = ()
) -> list[Remedy]:
    """Return the changes of the neurons: the start, surrogate widths, decay, threshold, detached reset.

    Third-party neurons get other surrogates only. A network without norms may also get larger weights.
    """
    layers = list(find_neurons(setup.network).values())
    built_in = [neuron for neuron in layers if isinstance(neuron, Neuron)]
    start = 'initialise it by measurement before training (initialise, or attach(..., method="initialised"))'
    if custom := ", ".join(dict.fromkeys(type(each).__name__ for each in layers if isinstance(each, spiking))):
        start += f", with spiking=({custom},)"
    changes: list[tuple[str, str, Callable[[Setup], object]]] = [
        ("initialise", start, lambda copied: initialise(copied.model, *batches[0], copied.loss))
    ]
    if not any(isinstance(module, NORMS) for module in setup.network.modules()):
        changes += [
            ("weights", f"weights of all layers times {factor:g} before training", partial(_scale_weights, factor))
            for factor in (2.0, 4.0, 8.0, 16.0)
        ]
    if len(built_in) == len(layers):
        changes += _changes_of_built_in(built_in)
    else:
        text = "a rectangle of width {:g} as the surrogate of all neurons"
        changes += [("width", text.format(width), partial(_set_rectangle, width)) for width in WIDTHS]
    return [Remedy(group, text, partial(_changed_copy, setup, change)) for group, text, change in changes]


def _changed_copy(setup: Setup, change: Callable[[Setup], object]) -> Setup:
    copied = Setup(copy.deepcopy(setup.model), setup.loss)
    change(copied)
    return copied


@torch.no_grad()
def _scale_weights(factor: float, setup: Setup) -> None:
    for module in setup.network.modules():
        if is_layer(module):
            for parameter in module.parameters():
                parameter.mul_(factor if parameter.dim() > 1 else 1.0)


def _changes_of_built_in(layers: Sequence[Neuron]) -> Iterator[tuple[str, str, Callable[[Setup], object]]]:
    """Yield group, text and change of each remedy for built-in neurons."""
    surrogates = [neuron.surrogate for neuron in layers]
    if all(isinstance(surrogate, Resizable) for surrogate in surrogates):
        for width in WIDTHS:
            text = f"surrogate width {width:g} in all layers{_surrogate_options(surrogates, width)}"
            yield "width", text, partial(_set_width, width)
    attributes: list[tuple[str, str, tuple[Any, ...]]] = [
        ("threshold", "threshold {0:g} (--neuron.threshold {0:g})", (0.25, 0.5, 1.0, 2.0)),
        ("detach_reset", "detached reset: {0} (--neuron.detach_reset {0})", (True, False)),
    ]
    if all(isinstance(neuron, LIF) for neuron in layers):
        attributes.insert(0, ("decay", "decay {0:g} (--neuron.decay {0:g})", (0.0, 0.25, 0.5, 0.75, 1.0)))
    for name, text, values in attributes:
        present = {getattr(neuron, name) for neuron in layers}
        for value in values:
            if present != {value}:
                yield name, text.format(value), partial(_set_attribute, name, value)


def _set_width(width: float, setup: Setup) -> None:
    neuron: Any
    for neuron in find_neurons(setup.network).values():
        neuron.surrogate = neuron.surrogate.resized(width)


def _set_rectangle(width: float, setup: Setup) -> None:
    if not all(set_surrogate(neuron, 1.0, width) for neuron in find_neurons(setup.network).values()):
        raise ValueError("a neuron has no surrogate that can be set")


def _set_attribute(name: str, value: Any, setup: Setup) -> None:
    for neuron in find_neurons(setup.network).values():
        setattr(neuron, name, value)


def _surrogate_options(surrogates: Sequence[Any], width: float) -> str:
    """Return the options that give all layers surrogates of this width, in brackets; "" if no options do."""
    if len({type(surrogate) for surrogate in surrogates}) > 1 or not is_component(surrogates[0]):
        return ""
    entries = write(surrogates[0].resized(width))
    numbers = {name: f"{value:g}" for name, value in entries.items() if isinstance(value, int | float)}
    options = " ".join(f"--neuron.surrogate.{name} {value}" for name, value in numbers.items())
    return f" ({options})" if numbers else ""
