"""Surrogate widths at which the gradient keeps its size from the last spiking layer to the first.

A surrogate changes the backward pass only, so one forward pass serves for all widths. On its way back the gradient
stops at each neuron, whose own backward pass is repeated at other widths until the norm of what leaves it, at the
membrane potential, is that of the last layer; then it goes on with that. So one backward pass is all it takes, and
residual sums, time and attached resets are in what is measured.
"""

import copy
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..introspection import find_neurons, steepness
from ..method import inputs_of
from ..module_state import hooked, preserving_state
from ..neurons import Neuron, Resizable
from .calibration_of_others import rounded, steepness_by_layer
from .layers import Batch, Loss, cross_entropy
from .probe import square_sum

# Beyond these a rectangle lets next to nothing through, or is flat over all membrane potentials there are.
NARROWEST, WIDEST = 0.05, 20.0
_HALVINGS = 14


def calibrate(
    network: nn.Module, batches: Sequence[Batch], loss: Loss = cross_entropy, *, model: nn.Module | None = None
) -> dict[str, float]:
    """Set each neuron's surrogate to the width that keeps the gradient's norm through depth.

    The last layer keeps its own, and so gives the norm. Weights, statistics and random state stay as they were.

    Args:
        network: of this library's neurons, each with a surrogate object to itself or not: each gets its own. Or of
            SpikingJelly's, snnTorch's or Norse's, whose surrogates have an ``alpha`` or a ``slope``.
        batches: pairs of inputs and labels; widths are geometric means over them.
        loss: takes the output of what is run, and the labels.
        model: what is run, where the network sits in a wrapper.

    Returns:
        The widths by layer, rounded to four digits; a width at either end of 0.05 to 20 says that the norm was out of
        reach there. Of other libraries, the values of ``alpha`` or ``slope``, from 1/32 of the neuron's own to 32 times
        that: the one nearest to its own that will do, or else that with which the norm comes nearest.

    Raises:
        ValueError: no batches, no neurons that it knows, a surrogate that has no width, a neuron of this library that
            is called several times, or, of other libraries, spikes that come back to the layers before.

    Example:
        >>> import torch
        >>> from shortcut_snn import nets
        >>> network, batch = nets.spiking_resnet8(10, 2, width=4), (torch.rand(2, 3, 8, 8), torch.tensor([1, 2]))
        >>> widths = calibrate(network, [batch])
        >>> list(widths)[0], all(0.05 <= width <= 20 for width in widths.values())
        ('stem.spike', True)
    """
    layers = _layers(network)
    if not batches:
        raise ValueError("give at least one batch to calibrate on")
    ours = {name: layer for name, layer in layers.items() if isinstance(layer, Neuron)}
    logs: dict[str, list[float]] = {name: [] for name in layers}
    whole = network if model is None else model
    for batch in batches:
        total = partial(_total, network, whole, batch, loss)
        found = _one_batch(whole, ours, total) if ours else steepness_by_layer(whole, layers, total)
        for name, width in found.items():
            logs[name].append(math.log(width))
    widths = {name: rounded(math.exp(sum(values) / len(values))) for name, values in logs.items() if values}
    set_widths(network, widths)
    return widths


def set_widths(network: nn.Module, widths: dict[str, float]) -> None:
    """Give neurons surrogates of other widths.

    Args:
        network: see :func:`calibrate`.
        widths: by layer, as :func:`calibrate` returns them; layers that are not named keep theirs.

    Raises:
        ValueError: a layer that the network does not have, or a surrogate that has no width.

    Example:
        >>> from shortcut_snn import nets
        >>> network = nets.spiking_resnet8(10, 2, width=4)
        >>> set_widths(network, {"stem.spike": 2.0})
        >>> network.stem.spike.neuron.surrogate
        Rectangle(width=2.0)
    """
    layers = _layers(network)
    for name, width in widths.items():
        if name not in layers:
            raise ValueError(f"{type(network).__name__} has no spiking layer {name!r} to set a surrogate's width of")
        layer = layers[name]
        if isinstance(layer, Neuron):
            layer.surrogate = _resizable(name, layer).resized(width)
        else:
            steepness(layer, width)


def _layers(network: nn.Module) -> dict[str, nn.Module]:
    layers = find_neurons(network)
    if not layers:
        raise ValueError(
            f"{type(network).__name__} has no neurons of this library, SpikingJelly, snnTorch or Norse, so no "
            "surrogate to calibrate"
        )
    for name, neuron in layers.items():
        if isinstance(neuron, Neuron):
            _resizable(name, neuron)
    return layers


def _resizable(name: str, neuron: Neuron) -> Resizable:
    if not isinstance(neuron.surrogate, Resizable):
        raise ValueError(f"the surrogate of {name}, {neuron.surrogate}, has no width: give it a method resized(width)")
    return neuron.surrogate


def _total(network: nn.Module, model: nn.Module, batch: Batch, loss: Loss) -> Tensor:
    """Return the loss of a batch; which arguments it is, the network says, also inside a wrapper."""
    args, kwargs = inputs_of(network, batch[0])
    return loss(model(*args, **kwargs), batch[1])


def _one_batch(model: nn.Module, layers: dict[str, Neuron], total: Callable[[], Tensor]) -> dict[str, float]:
    widths: dict[str, float] = {}
    search = _Search()
    stops = {name: _Stop(name, neuron, search, widths) for name, neuron in layers.items()}
    before, after = (lambda name, *given: stops[name].before(*given)), (lambda name, *given: stops[name].after(*given))
    with preserving_state(model), hooked(layers, after, before):
        total().backward()  # type: ignore[no-untyped-call]
    return widths


class _Search:
    """What the stops share: the norm that the last layer set."""

    target: float | None = None

    def __call__(self, norm: Callable[[float], float]) -> float:
        """Halve the interval of log widths until the norm, which falls with the width, is the target."""
        assert self.target is not None
        low, high = math.log(NARROWEST), math.log(WIDEST)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if norm(math.exp(middle)) > self.target else (low, middle)
        return math.exp((low + high) / 2)


class _Stop:
    """Where the gradient waits at one neuron until its surrogate has the right width."""

    def __init__(self, name: str, neuron: Neuron, search: _Search, widths: dict[str, float]) -> None:
        self.name, self.neuron, self.search, self.widths = name, neuron, search, widths
        self.current: Tensor | None = None
        self.at_spikes: Tensor | None = None

    def before(self, module: nn.Module, args: Any) -> Any:
        if not args[0].requires_grad:
            return None
        if self.current is not None:
            raise ValueError(
                f"{self.name} is called several times in a pass, so that its surrogate cannot be calibrated: give each "
                "layer a neuron of its own, or choose a method without calibration"
            )
        # A view for this neuron alone: a skip path may share the tensor.
        alias = args[0].view_as(args[0])
        self.current = args[0].detach()
        alias.register_hook(self.settle)
        return (alias, *args[1:])

    def after(self, module: nn.Module, args: Any, output: Tensor) -> None:
        if output.requires_grad:
            output.register_hook(self.arrive)  # type: ignore[no-untyped-call]

    def arrive(self, grad: Tensor) -> None:
        self.at_spikes = grad.detach()

    def settle(self, grad: Tensor) -> Tensor | None:
        """Replace the gradient at the membrane by the one at the width that was found."""
        if self.search.target is None:
            self.search.target = _norm(grad)
            return None
        if not self.search.target or self.at_spikes is None:
            return None
        width = rounded(self.search(lambda width: _norm(self.gradient(width))))
        self.widths[self.name] = width
        return self.gradient(width)

    def gradient(self, width: float) -> Tensor:
        """The neuron's own backward pass with a surrogate of another width."""
        assert self.current is not None
        twin = copy.copy(self.neuron)
        twin.surrogate = _resizable(self.name, twin).resized(width)
        with torch.enable_grad():
            current = self.current.clone(memory_format=torch.preserve_format).requires_grad_()
            spikes, _ = twin.stream(current)
        (grad,) = torch.autograd.grad(spikes, current, self.at_spikes)
        return grad


def _norm(grad: Tensor) -> float:
    return math.sqrt(float(square_sum(grad)))
