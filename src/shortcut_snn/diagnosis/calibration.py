"""Calibrate surrogate gradients: choose widths at which the gradient keeps its norm through depth.

A surrogate changes the backward pass only, so one forward pass serves for all widths:

1. Run the model on a batch. Record the calls of every neuron and detach its output, which cuts the graph there.
2. Backpropagate the loss to the outputs of the neurons.
3. Visit the neurons from the last to the first. Repeat the recorded calls with other widths until the gradient at the
   input current has the norm that it has at the last neuron. Backpropagate that gradient to the neurons before.

Residual sums, time and attached resets all take part, so the norms are those of a usual backward pass. The repeated
calls make this work for neurons that are called once a batch and for those that are called once per time step.
"""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from ..introspection import find_neurons, reset_of, steepness
from ..method import detached_states, inputs_of
from ..module_state import preserving_state
from ..neurons import Neuron, Resizable
from .layers import Batch, Loss, default_loss, examine
from .probe import square_sum
from .statistics import geometric_mean

# A narrower rectangle lets next to nothing through. A wider one covers all membrane potentials.
NARROWEST, WIDEST = 0.05, 20.0
# The steepness of a third-party surrogate is searched from 1 / 32 of its present value to 32 times that.
_STEEPNESS_SPAN = 32.0
# Widths are searched as middle * span ** exponent.
_GRID = [number / 10 for number in range(-10, 11)]
_HALVINGS = 10


def calibrate(
    network: nn.Module, batches: Sequence[Batch], loss: Loss = default_loss, *, model: nn.Module | None = None
) -> dict[str, float]:
    """Set the width of each neuron's surrogate so that the gradient keeps its norm from the last layer to the first.

    The last layer keeps its surrogate and sets the norm. Weights, statistics and random states do not change.

    Args:
        network: a network with built-in neurons, or with those of SpikingJelly, snnTorch or Norse whose surrogates have
            an ``alpha`` or a ``slope``.
        batches: pairs of inputs and labels. A width is the geometric mean over them.
        loss: takes the output of the model and the labels.
        model: the module to run, if the network is inside a wrapper.

    Returns:
        The widths by layer, rounded to four digits. The width of a built-in surrogate lies between 0.05 and 20; either
        end means that the norm was out of reach. For third-party surrogates these are values of ``alpha`` or ``slope``.

    Raises:
        ValueError: there are no batches, no known neurons, a surrogate has no width, or a neuron is used by several
            layers.

    Example:
        >>> import torch
        >>> from shortcut_snn import nets
        >>> network, batch = nets.spiking_resnet8(10, 2, width=4), (torch.rand(2, 3, 8, 8), torch.tensor([1, 2]))
        >>> widths = calibrate(network, [batch])
        >>> list(widths)[0], all(0.05 <= width <= 20 for width in widths.values())
        ('stem.spike', True)
    """
    layers = _calibratable_neurons(network)
    if not batches:
        raise ValueError("batches is empty: pass at least one batch to calibrate on")
    model = network if model is None else model
    # Neurons that only integrate for the output are not cut: their spikes do not reach the loss.
    spiking = {layer.layer for layer in examine(model, batches[:1], loss, network=network).layers}
    layers = {name: neuron for name, neuron in layers.items() if name in spiking}
    by_layer: dict[str, list[float]] = {name: [] for name in layers}
    for inputs, labels in batches:
        # A wrapper takes the arguments of its network.
        args, kwargs = inputs_of(network, inputs)
        with preserving_state(model):
            recordings, output = _record_calls(model, layers, args, kwargs)
            for name, width in _calibrate_on_batch(recordings, loss(output, labels)).items():
                by_layer[name].append(width)
    widths = {name: _rounded(geometric_mean(found)) for name, found in by_layer.items() if found}
    set_widths(network, widths)
    return widths


def set_widths(network: nn.Module, widths: Mapping[str, float]) -> None:
    """Set the widths of surrogates.

    Args:
        network: see :func:`calibrate`.
        widths: by layer, as :func:`calibrate` returns them. Other layers keep theirs.

    Raises:
        ValueError: the network does not have such a layer, or its surrogate has no width.

    Example:
        >>> from shortcut_snn import nets
        >>> network = nets.spiking_resnet8(10, 2, width=4)
        >>> set_widths(network, {"stem.spike": 2.0})
        >>> network.stem.spike.neuron.surrogate
        Rectangle(width=2.0)
    """
    layers = _calibratable_neurons(network)
    for name, width in widths.items():
        if name not in layers:
            raise ValueError(f"{type(network).__name__} has no spiking layer {name!r} whose width could be set")
        _set_width(layers[name], width)


def _calibratable_neurons(network: nn.Module) -> dict[str, nn.Module]:
    """Return the neurons of a network by layer, all of whose surrogates have a width."""
    layers = find_neurons(network)
    if not layers:
        raise ValueError(
            f"{type(network).__name__} has no surrogate to calibrate: its neurons are neither built-in nor from "
            "SpikingJelly, snnTorch or Norse"
        )
    for name, neuron in layers.items():
        if isinstance(neuron, Neuron):
            if not isinstance(neuron.surrogate, Resizable):
                raise _has_no_width(name, neuron, "add a method resized(width) to it")
        elif not steepness(neuron):
            raise _has_no_width(name, neuron, "use another surrogate")
    return layers


def _has_no_width(name: str, neuron: nn.Module, remedy: str) -> ValueError:
    surrogate = getattr(neuron, "surrogate", type(neuron).__name__)
    return ValueError(
        f"the surrogate of {name}, {surrogate}, has no width: {remedy}, or choose a method without calibration"
    )


def _set_width(neuron: nn.Module, width: float) -> None:
    if isinstance(neuron, Neuron):
        assert isinstance(neuron.surrogate, Resizable)
        neuron.surrogate = neuron.surrogate.resized(width)
    else:
        steepness(neuron, width)


def _rounded(width: float) -> float:
    return float(f"{width:.4g}")


def _calibrate_on_batch(recordings: Sequence["_Recording"], loss: Tensor) -> dict[str, float]:
    """Return the widths that one batch asks for, from the recorded calls of all neurons and the loss."""
    _backpropagate([loss], [torch.ones_like(loss)], recordings)
    widths: dict[str, float] = {}
    target = 0.0
    for recording in reversed(recordings):
        if not recording.needs_gradient:
            continue
        if target and (width := _search_width(recording, target)) is not None:
            widths[recording.name] = width
        gradients = recording.current_gradients(widths.get(recording.name))
        target = target or _norm(gradients)
        recording.gradients = [None] * len(recording.outputs)
        _backpropagate(recording.currents, gradients, recordings)
    for recording in recordings:
        # All gradients were cleared. A new one comes from an earlier neuron, whose width it should have influenced.
        if _norm(recording.gradients):
            raise ValueError(
                f"the neuron {recording.name} is used several times, and its spikes come back to it or to a layer "
                "before: give each layer its own neuron, or choose a method without calibration"
            )
    return widths


def _record_calls(
    model: nn.Module, layers: Mapping[str, nn.Module], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[list["_Recording"], Any]:
    """Run the model and return the recordings of its neurons, in the order of their first calls, and the output."""
    called: list[_Recording] = []
    handles = []
    reset = reset_of(model, None)
    try:
        for name, neuron in layers.items():
            recording = _Recording(name, neuron, called)
            handles.append(neuron.register_forward_pre_hook(recording.before_call, with_kwargs=True))
            # First of all hooks: a tap on the neuron has to read the output that was cut.
            handles.append(neuron.register_forward_hook(recording.after_call, prepend=True))
        reset(model)
        output = model(*args, **kwargs)
    finally:
        for handle in handles:
            handle.remove()
        reset(model)
    return called, output


def _backpropagate(
    tensors: Sequence[Tensor], gradients: Sequence[Tensor | None], recordings: Sequence["_Recording"]
) -> None:
    """Backpropagate gradients, of the loss or at input currents, to the outputs of the neurons before them."""
    pairs = [(x, grad) for x, grad in zip(tensors, gradients, strict=True) if x.requires_grad and grad is not None]
    places = [(r, i) for r in recordings for i, output in enumerate(r.outputs) if output.requires_grad]
    if not (pairs and places):
        return
    arrived = torch.autograd.grad(
        [x for x, _ in pairs],
        [recording.outputs[index] for recording, index in places],
        [grad for _, grad in pairs],
        retain_graph=True,
        allow_unused=True,
    )
    for (recording, index), grad in zip(places, arrived, strict=True):
        if grad is not None:
            present = recording.gradients[index]
            # Not in place, as in ``output.grad``: gradients of several time steps may share their memory.
            recording.gradients[index] = grad if present is None else present + grad


class _Recording:
    """The calls of one neuron in a pass, which can be repeated with a surrogate of another width."""

    def __init__(self, name: str, neuron: nn.Module, called: list["_Recording"]) -> None:
        self.name, self.neuron, self.called = name, neuron, called
        self.arguments: list[tuple[Any, Any]] = []
        self.currents: list[Tensor] = []
        """The input current of each call, with its graph."""
        self.results: list[Any] = []
        """What each call returned to the network, without a graph."""
        self.outputs: list[Tensor] = []
        """The tensors of all results as leaves of the graph."""
        self.gradients: list[Tensor | None] = []
        """The gradients that have arrived at the outputs."""
        self.needs_gradient = any(parameter.requires_grad for parameter in neuron.parameters())

    def before_call(self, neuron: nn.Module, args: Any, kwargs: Any) -> Any:
        if not self.arguments:
            self.called.append(self)
            self.initial = _copied(neuron)
        self.arguments.append((args, kwargs))
        self.currents.append(args[0])
        self.needs_gradient |= args[0].requires_grad
        return tree_map_only(Tensor, Tensor.detach, (args, kwargs))

    def after_call(self, neuron: nn.Module, args: Any, result: Any) -> Any:
        def cut(tensor: Tensor) -> Tensor:
            self.outputs.append(tensor.detach().requires_grad_(self.needs_gradient and tensor.is_floating_point()))
            self.gradients.append(None)
            # A copy, since the network may change it in place.
            return self.outputs[-1].clone()

        self.results.append(tree_map_only(Tensor, cut, result))
        return self.results[-1]

    def current_gradients(self, width: float | None = None) -> list[Tensor | None]:
        """Return the gradient at the current of each call, with a surrogate of some width; None keeps its own."""
        currents, results = self._repeat_calls(width)
        outputs = [leaf for leaf in tree_leaves(results) if isinstance(leaf, Tensor)]
        arrived = [
            (output, gradient)
            for output, gradient in zip(outputs, self.gradients, strict=True)
            if gradient is not None and output.requires_grad
        ]
        if not arrived:
            return [None] * len(currents)
        tensors, gradients = zip(*arrived, strict=True)
        return list(torch.autograd.grad(tensors, currents, gradients, allow_unused=True))

    @torch.enable_grad()
    def _repeat_calls(self, width: float | None) -> tuple[list[Tensor], list[Any]]:
        """Return the currents of all calls as leaves, and what the calls return with another width."""
        neuron = _copied(self.initial)
        if width is not None:
            _set_width(neuron, width)
        currents: list[Tensor] = []
        results: list[Any] = []
        # By id of a recorded tensor: a result of one call, such as a state, may be an argument of the next.
        repeated: dict[int, Tensor] = {}
        for arguments, recorded in zip(self.arguments, self.results, strict=True):
            (current, *others), kwargs = tree_map_only(Tensor, lambda x: repeated.get(id(x), x.detach()), arguments)
            currents.append(current.detach().clone(memory_format=torch.preserve_format).requires_grad_())
            results.append(neuron(currents[-1], *others, **kwargs))
            for old, new in zip(tree_leaves(recorded), tree_leaves(results[-1]), strict=True):
                if isinstance(old, Tensor):
                    repeated[id(old)] = new
        return currents, results


def _copied(neuron: nn.Module) -> nn.Module:
    """Return a copy with its own state and without hooks, which may refer to the rest of the model."""
    memo: dict[int, Any] = detached_states(neuron)
    for module in neuron.modules():
        memo |= {id(value): type(value)() for key, value in vars(module).items() if "_hooks" in key}
    return copy.deepcopy(neuron, memo)


def _norm(gradients: Sequence[Tensor | None]) -> float:
    return math.sqrt(sum(float(square_sum(gradient)) for gradient in gradients if gradient is not None))


def _search_width(recording: _Recording, target: float) -> float | None:
    """Return the width at which the gradient has the target norm; None if it is 0 at all widths."""
    if isinstance(recording.neuron, Neuron):
        middle, span = 1.0, WIDEST
    else:
        present = steepness(recording.initial)
        assert present
        middle, span = present, _STEEPNESS_SPAN

    def width_at(exponent: float) -> float:
        return _rounded(middle * span**exponent)

    def excess(exponent: float) -> float:
        """Return the logarithm of the norm over the target; NaN if it overflows, as steep surrogates may."""
        norm = _norm(recording.current_gradients(width_at(exponent)))
        return math.log(norm / target) if 0 < norm < math.inf else -math.inf if norm == 0 else math.nan

    grid = {exponent: value for exponent in _GRID if not math.isnan(value := excess(exponent))}
    if not grid or max(grid.values()) == -math.inf:
        return None
    if max(grid.values()) - min(grid.values()) < 1e-6:
        raise _has_no_width(recording.name, recording.neuron, "use another surrogate")
    return width_at(_find_root(excess, grid))


def _find_root(function: Callable[[float], float], grid: Mapping[float, float]) -> float:
    """Return the root of a function that is nearest to 0, or else the grid point whose value is nearest to 0.

    Args:
        function: may rise and then fall, so the grid comes before the bisection.
        grid: its values at increasing points.
    """
    crossings = [(a, b) for a, b in pairwise(grid) if (grid[a] < 0) != (grid[b] < 0)]
    if not crossings:
        return min(grid, key=lambda point: abs(grid[point]))
    low, high = min(crossings, key=lambda pair: abs(sum(pair)))
    rises = grid[low] < 0
    for _ in range(_HALVINGS):
        center = (low + high) / 2
        low, high = (center, high) if (function(center) < 0) == rises else (low, center)
    return (low + high) / 2
