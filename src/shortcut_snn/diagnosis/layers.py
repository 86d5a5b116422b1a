"""Every spiking layer of a network on a few batches: does it fire, and what gradient reaches it?"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..introspection import find_neurons, reset_of
from ..method import Reset, inputs_of
from ..module_state import preserving_state
from .gradients import on_chain
from .probe import Tally, probe

Batch = tuple[Any, Any]
Loss = Callable[[Any, Tensor], Tensor]


@dataclass(frozen=True)
class LayerReport:
    """One spiking layer."""

    layer: str
    rate: float
    """Spikes per neuron and time step."""
    silent: float
    """Share of neurons that never fired."""
    saturated: float
    """Share of neurons that always fired."""
    weight_rms: float
    """Gradient RMS of the weights that feed it; NaN where none do."""
    membrane_rms: float
    """Gradient RMS of its membrane potential (or spikes, where a probe looks at these); NaN where none is needed."""
    norm: float
    """Norm of the same gradient over neurons, time steps and samples."""
    gain: float
    """Norm over that of the next deeper layer on the chain; NaN for the last one and in a residual's projection."""


@dataclass(frozen=True)
class Examination:
    """What was measured on the batches, each by itself, in the order of the network."""

    batches: tuple[tuple[LayerReport, ...], ...]

    @property
    def layers(self) -> tuple[LayerReport, ...]:
        """The reports of the first batch."""
        return self.batches[0]

    @property
    def factors(self) -> list[float]:
        """For each batch, the gradient's norm at the first layer over that at the last: see :func:`factor`."""
        return [factor(layers) for layers in self.batches]


def chain(layers: Sequence[LayerReport]) -> list[LayerReport]:
    """Return the layers from input to output, without those in residual projections."""
    return [layer for layer in layers if on_chain(layer.layer)]


def learning(layers: Sequence[LayerReport]) -> list[LayerReport]:
    """Return those of the chain at which a gradient is needed: no neurons that encode the input, none behind what is
    frozen."""
    return [layer for layer in chain(layers) if layer.norm or not math.isnan(layer.membrane_rms)]


def factor(layers: Sequence[LayerReport]) -> float:
    """Return by what the gradient's norm was multiplied on its way from the last spiking layer to the first."""
    along = learning(layers)
    if not along or not along[-1].norm:
        return math.nan
    return along[0].norm / along[-1].norm


def cross_entropy(output: Any, labels: Tensor) -> Tensor:
    """The loss where none is named: of logits ``[N, classes]``."""
    return F.cross_entropy(output, labels)


def examine(
    model: nn.Module,
    batches: Sequence[Batch],
    loss: Loss = cross_entropy,
    *,
    network: nn.Module | None = None,
    reset: Reset | None = None,
) -> Examination:
    """Run batches forward and backward in training mode and leave the model as it was.

    Args:
        model: what is run: a network, or one in a wrapper.
        batches: pairs of inputs and labels; of several inputs, a tuple or a dictionary of arguments.
        loss: takes the model's output and the labels.
        network: the part whose layers are looked at; all of the model by default.
        reset: called before each batch and at the end, for networks that keep a state; by default that of the
            library that the neurons come from.

    Raises:
        ValueError: no batches, or no neurons that it knows.

    Example:
        >>> import torch
        >>> from shortcut_snn import nets
        >>> network, batch = nets.spiking_resnet8(10, 2, width=4), (torch.rand(2, 3, 8, 8), torch.tensor([1, 2]))
        >>> [layer.layer for layer in examine(network, [batch]).layers][:2]
        ['stem.spike', 'layer1.0.spike1']
    """
    network = model if network is None else network
    if not batches:
        raise ValueError("give at least one batch to look at")
    if not find_neurons(network):
        raise ValueError(
            f"{type(network).__name__} has no neurons of this library, SpikingJelly, snnTorch or Norse to look at"
        )
    found, rest = [], reset_of(model, reset)
    for images, labels in batches:
        with preserving_state(model), probe(network) as tallies:
            rest(model)
            args, kwargs = inputs_of(network, images)
            loss(model(*args, **kwargs), labels).backward()  # type: ignore[no-untyped-call]
            found.append(layer_reports(network, tallies))
            rest(model)
    return Examination(tuple(found))


@torch.no_grad()
def layer_reports(network: nn.Module, tallies: dict[str, Tally]) -> tuple[LayerReport, ...]:
    """Return what a probe has tallied of a network, from input to output, after a backward pass."""
    reports: list[LayerReport] = []
    deeper = math.nan
    for name, tally in reversed(tallies.items()):
        norm = tally.norm
        gain = math.nan
        if on_chain(name):
            gain, deeper = norm / deeper if deeper else math.nan, norm
        reports.append(
            LayerReport(
                layer=name,
                rate=tally.rate,
                silent=tally.silent,
                saturated=tally.saturated,
                weight_rms=_rms(network.get_submodule(tally.weight)) if tally.weight else math.nan,
                membrane_rms=norm / max(tally.elements, 1) ** 0.5 if tally.needs_gradient else math.nan,
                norm=norm,
                gain=gain,
            )
        )
    return tuple(reversed(reports))


def _rms(layer: nn.Module) -> float:
    grad = layer.weight.grad
    return grad.float().square().mean().sqrt().item() if isinstance(grad, Tensor) else math.nan
