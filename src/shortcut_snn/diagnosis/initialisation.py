"""Initialise a deep network by measurement, so that every block passes on its input and its gradient.

A new network of blocks ``spike(f(x) + x)`` forgets its input after some ten blocks, since ``f(x)`` is as large as a
spike. Weights, architecture and neurons may stay: it is enough that the network starts elsewhere.

1. A forward pass finds the norm before each neuron, and what is added to it (see :mod:`.structure`).
2. A second one sets the norms, one after another, at the currents that the layers before already cause. The shift of a
   norm sets the firing rate, and without a norm the size of the weights does. A norm whose output is added to spikes
   gets the largest scale at which few spikes change. A layer without a skip path becomes the identity plus as little of
   its random weights.
3. The surrogates on the way of the input become flat, and backward passes set their heights until the gradient keeps
   its norm. A block's gain is linear in the height. Those inside branches become low: in training, the gradients of
   many branches would add up and explode.

Each step costs a few passes, whatever the depth. Relatives: SkipInit and Fixup for residual networks, Dirac
initialisation for plain ones, LSUV for measuring layer by layer; for spiking networks SpikeInit (ICML 2026), Micheli et
al. (arXiv 2410.00580) and IKUN (arXiv 2411.18250).
"""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ..introspection import find_neurons, set_surrogate, single_step_neurons
from ..method import Shortcut, detached_states, first_tensor, inputs_of, tensor_in
from ..module_state import hooked, preserving_state
from ..neurons import Neuron
from .layers import Loss, chain, check_can_examine, default_loss
from .probe import probe
from .structure import Layer, find_layers, fits, shaped_like
from .wrapping import wrapped_copy

RATE = 0.2
"""Spikes per neuron and time step of the layers whose rate a norm's shift sets."""
PROJECTED_RATE = 0.33
"""The same where the skip path has a projection. It drops most positions, so more spikes pass."""
CHANGED = 0.2
"""Share of spikes that all blocks together may change; each gets an equal part."""
FLAT = 2.4
"""Width of the rectangle that is the surrogate on the way of the input."""
BRANCHES = 5.0
"""Sum of the factors on the surrogates inside branches: in training the gradients of branches point the same way."""
# The scale of a norm is searched between these values.
_SMALLEST, _LARGEST = 0.02, 1.0
_HALVINGS = 8
_BACKWARD_PASSES = 3
_GROWTH = 2.0
# Searches run on about this many numbers of a layer's current.
_NUMBERS = 2**16
# Time steps for which a neuron of one time step is tried.
_STEPS = 3

Surrogates = dict[str, dict[str, float]]
"""By layer, a ``factor`` on its surrogate. With a ``width``, the surrogate is first replaced by such a rectangle."""


@dataclass(frozen=True)
class Initialisation:
    """The settings and measurements of :func:`initialise`. ``str`` returns a summary."""

    norms: dict[str, tuple[float, float]]
    """Scale and shift by norm. The norm of a layer that copies its input has them per channel; these are the means."""
    surrogates: Surrogates
    """What :func:`set_surrogates` takes, to set them in another copy of the network."""
    skipped: dict[str, str]
    """By layer, what could not be set and why."""
    kept: float
    """Share of the input that the last layers keep (see :mod:`.forward`)."""
    rates: tuple[float, float]
    """Lowest and highest firing rate of a layer."""
    gradients: tuple[float, float]
    """Lowest and highest norm of the gradient on the way of the input, over that at its last neuron."""

    def __str__(self) -> str:
        """Return what was set, what was reached, and what could not be set."""
        lines = [
            f"initialised: {len(self.norms)} norms and {len(self.surrogates)} surrogates set; the last layers keep "
            f"{self.kept:.0%} of the input, firing rates are {self.rates[0]:.2g} to {self.rates[1]:.2g}, "
            f"gradients {self.gradients[0]:.2g} to {self.gradients[1]:.2g} times the last"
        ]
        return "\n".join(lines + [f"not set: {name}: {reason}" for name, reason in self.skipped.items()])


def initialise(network: nn.Module, example: Any, labels: Any, loss: Loss = default_loss) -> Initialisation:
    """Set the norms and surrogates of a new network so that every block passes on its input and its gradient.

    The scales and shifts of norms change, and the size of weights before and without norms. The weights of layers
    without a skip path become the identity plus a part of what they were. Run it once, before the first step. If it
    raises or is interrupted, nothing has changed.

    Args:
        network: a network with built-in neurons or those of a known library, or a wrapper of
            :func:`shortcut_snn.attach`. A third-party network is wrapped to find its layout, as in :func:`diagnose`.
        example: a batch of real data, at least 16 samples.
        labels: of the batch, for the loss.
        loss: takes the network's output, or the wrapper's, and the labels. See :func:`diagnose`.

    Returns:
        What was set, what could not be set, and what was reached on this batch.

    Raises:
        ValueError: there are no known neurons, or the network's layout cannot be inferred.

    Example:
        >>> import torch
        >>> from shortcut_snn import nets
        >>> network = nets.spiking_resnet20(10, 2, width=4)
        >>> report = initialise(network, torch.randn(16, 3, 8, 8), torch.arange(16) % 10)
        >>> bool(network.layer1[0].spike2.norm.weight[0] < 0.5), report.skipped
        (True, {})
    """
    check_can_examine(network.network if isinstance(network, Shortcut) else network, [(example, labels)])
    setup = wrapped_copy(network, (example, labels), loss)
    copied, target = setup.network, network.network if isinstance(network, Shortcut) else network
    starting = _Start(setup.model, copied)
    starting.measure(example, labels, setup.loss)
    examination = setup.examine([(example, labels)])
    with torch.no_grad():
        parameters = dict(target.named_parameters())
        for name, parameter in copied.named_parameters():
            if name in starting.changed:
                parameters[name].copy_(parameter)
    set_surrogates(target, starting.surrogates)
    if isinstance(network, Shortcut):
        network.surrogates = starting.surrogates
    reports = {report.layer: report for report in chain(examination.layers)}
    norms = [reports[name].norm for name in starting.way if name in reports] or [r.norm for r in reports.values()]
    rates = [report.rate for report in reports.values()]
    return Initialisation(
        {name: _means(copied.get_submodule(name)) for name in starting.norms},
        starting.surrogates,
        starting.skipped,
        # The last neuron may be in a branch, and its spikes added to what is kept.
        max(report.kept for report in list(reports.values())[-2:]),
        (min(rates), max(rates)),
        (min(norms) / norms[-1], max(norms) / norms[-1]) if norms[-1] else (math.nan, math.nan),
    )


def set_surrogates(network: nn.Module, surrogates: Mapping[str, Mapping[str, float]]) -> None:
    """Set the surrogates of a network, as an initialisation has set those of another copy.

    Args:
        network: see :func:`initialise`.
        surrogates: by layer, as :attr:`Initialisation.surrogates`. Other layers keep theirs.

    Raises:
        ValueError: the network does not have such a layer.

    Example:
        >>> from shortcut_snn import nets
        >>> network = nets.spiking_resnet8(10, 2, width=4)
        >>> set_surrogates(network, {"stem.spike": {"width": 2.0, "factor": 1.5}})
        >>> network.stem.spike.neuron.surrogate
        Scaled(surrogate=Rectangle(width=2.0), factor=1.5)
    """
    neurons = find_neurons(network)
    for name, entries in surrogates.items():
        if name not in neurons:
            raise ValueError(f"{type(network).__name__} has no spiking layer {name!r} whose surrogate could be set")
        set_surrogate(neurons[name], entries["factor"], entries.get("width"))


def _means(norm: Any) -> tuple[float, float]:
    return norm.weight.mean().item(), norm.bias.mean().item()


@dataclass
class _Start:
    """The state of an initialisation of a network inside a model."""

    model: nn.Module
    network: nn.Module
    layers: dict[str, Layer] = field(default_factory=dict)
    neurons: dict[str, nn.Module] = field(default_factory=dict)
    norms: set[str] = field(default_factory=set)
    """Norms that were set."""
    changed: set[str] = field(default_factory=set)
    """Parameters that were set."""
    surrogates: Surrogates = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    way: list[str] = field(default_factory=list)
    """Neurons that the input and the gradient pass one after another; empty if sums carry both, as in SEW blocks."""
    outputs: dict[str, Tensor] = field(default_factory=dict)
    """The latest outputs of norms and inputs of layers that copy, until a neuron takes them."""
    single_step: set[str] = field(default_factory=set)
    adding: list[tuple[int, ...]] = field(default_factory=list)
    """Shapes of the neurons in branches whose spikes are added."""
    usual: set[str] = field(default_factory=set)
    """Neurons in branches next to a projection, which keep their surrogates and weights."""
    passing: int = 1
    """Number of neurons that pass on the spikes before them."""
    blocks: int = 1
    """Number of blocks whose sum is a neuron's current."""
    scale: float = 0.2
    """The scale of the latest norm whose output is added to spikes."""

    def measure(self, example: Any, labels: Any, loss: Loss) -> None:
        """Set the norms, then the surrogates."""
        args, kwargs = inputs_of(self.network, example)

        def run() -> Any:
            return self.model(*args, **kwargs)

        self.single_step = single_step_neurons(self.network)
        with preserving_state(self.model), probe(self.network) as tallies:
            loss(run(), labels).backward()  # type: ignore[no-untyped-call]
        # Output neurons only integrate: their spikes do not reach the loss.
        integrators = {name for name, tally in tallies.items() if tally.needs_gradient and not tally.is_read}
        self.neurons = {name: neuron for name, neuron in find_neurons(self.network).items() if name not in integrators}
        with preserving_state(self.model):
            layers = find_layers(self.network, run)
        self.layers = {layer.name: layer for layer in layers if layer.name in self.neurons}
        self._check()
        with preserving_state(self.model), torch.no_grad():
            self._reset_norms()
            self._set_norms(run)
        for _ in range(_BACKWARD_PASSES):
            with preserving_state(self.model), probe(self.network) as tallies:
                loss(run(), labels).backward()  # type: ignore[no-untyped-call]
                self._set_heights({name: tally.norm for name, tally in tallies.items()})

    def _check(self) -> None:
        for name in self.neurons:
            layer = self.layers.get(name)
            if layer is None:
                self.skipped[name] = "it was not called"
            elif not layer.norm and not layer.weights:
                self.skipped[name] = "its current is not the output of a norm or of a layer with weights"
            elif layer.norm and getattr(self.network.get_submodule(layer.norm), "weight", None) is None:
                self.skipped[name] = f"its norm, {layer.norm}, has no scale and shift"
        roles = [layer.role for layer in self.layers.values()]
        self.passing = max(1, roles.count("skip") + roles.count("copy"))
        self.blocks = max(1, roles.count("skip") + roles.count("projected"))
        self.adding = [layer.shape for layer in self.layers.values() if layer.role == "adding"]
        has_skips = not {"skip", "projected", "adding", "stream"}.isdisjoint(roles)
        if {"adding", "stream"}.isdisjoint(roles):
            on_way = {"first", "skip", "projected"} | (set() if has_skips else {"copy", "inner"})
            self.way = [name for name, layer in self.layers.items() if layer.role in on_way]
        self.surrogates = {name: {"factor": 1.0} for name in self.way}
        pairs = pairwise(self.layers.values())
        self.usual = {layer.name for layer, after in pairs if layer.role == "inner" and after.role == "projected"}
        self.layers = {name: layer for name, layer in self.layers.items() if name not in self.skipped}

    def _reset_norms(self) -> None:
        """Let norms return normalised values, and those in membrane shortcuts an equal part of the variance."""
        streams = [layer.shape for layer in self.layers.values() if layer.role == "stream"]
        for layer in self.layers.values():
            if not layer.norm:
                continue
            scale = 1.0
            if streams and layer.role in ("stream", "projected"):
                scale = max(streams.count(layer.shape), 1) ** -0.5
            self._write_norm(layer.norm, scale, 0.0)
            if layer.projection:
                self._write_norm(layer.projection, 0.5**0.5 if self.way else 1.0, 0.0)

    def _write_norm(self, name: str, scale: Any, shift: Any) -> None:
        norm: Any = self.network.get_submodule(name)
        for attribute, value in (("weight", scale), ("bias", shift)):
            parameter = getattr(norm, attribute)
            if parameter is not None:
                parameter.copy_(torch.as_tensor(value, dtype=parameter.dtype).expand_as(parameter))
                self.changed.add(f"{name}.{attribute}")
        self.norms.add(name)

    def _set_norms(self, run: Callable[[], object]) -> None:
        modules = dict(nn.Module.named_modules(self.network))
        norms = {layer.norm: modules[layer.norm] for layer in self.layers.values() if layer.norm}
        weights = {layer.weights: modules[layer.weights] for layer in self.layers.values() if layer.role == "copy"}

        def keep_output(name: str, module: Any, args: Any, output: Any) -> None:
            # A copy, since a residual may be added in place.
            self.outputs[name] = output.clone()

        def keep_input(name: str, module: Any, args: Any, output: Any) -> None:
            self.outputs[name] = args[0]
            self.outputs[f"{name} out"] = output

        with hooked(norms, keep_output), hooked(weights, keep_input), hooked(self.neurons, pre=self._before_neuron):
            run()

    def _before_neuron(self, name: str, neuron: nn.Module, args: Any) -> Any:
        """Set the norm of a neuron, and return the current that it causes."""
        layer = self.layers.pop(name, None)
        current = tensor_in(args)
        # A neuron of one time step is called again; its norm is set then.
        if layer is None or current is None:
            return None
        normed = self.outputs.pop(layer.norm, None)
        if layer.role == "stream" or (layer.role == "projected" and not self.way):
            return None
        # In a neuron that passes on spikes, later steps would be compared with those of the first.
        several = name in self.single_step and layer.role not in ("skip", "copy")
        fire = partial(_fire, neuron, args, _STEPS if several else 1)
        if not layer.norm:
            new = current * self._scale_weights(layer, lambda scale: float(fire(current * scale).mean()))
            self._set_shape(name, layer)
            return (new, *args[1:])
        if normed is None or not fits(normed, current):
            self.skipped[name] = f"its norm, {layer.norm}, was called in another order"
            return None
        normed = shaped_like(current, normed)
        if layer.role == "copy":
            x = self.outputs.pop(layer.weights).reshape(current.shape)
            scale, shift = self._pass_on(name, fire, normed, x)
            new = self._write_copy(layer, x, normed, scale, shift)
        elif layer.role == "skip":
            x = current - normed
            scale, shift = self._pass_on(name, fire, normed, x)
            self._write_norm(layer.norm, scale, shift)
            new = scale * normed + shift + x
        else:
            # With a projection the sum has variance 1, as a layer without one.
            scale, rate = (0.5**0.5, PROJECTED_RATE) if layer.role == "projected" else (1.0, RATE)
            new = current + (scale - 1) * normed
            small = self._small(name, new)
            shift = _bisect(lambda shift: float(fire(small + shift).mean()) - rate)
            self._write_norm(layer.norm, scale, shift)
            new = new + shift
        self._set_shape(name, layer)
        return (new, *args[1:])

    def _set_shape(self, name: str, layer: Layer) -> None:
        """Make the surrogate flat on the way of the input, and low in a branch off this way.

        Before a norm the size of weights does not matter, but that of a step relative to it. Weights before a low
        surrogate, whose gradient is low, become smaller. Those of all blocks become larger, so that the changes of many
        blocks in one step do not add up to noise.
        """
        if name in self.usual:
            # A block with a projection adds what the projection drops.
            return
        size = max(1.0, self.blocks**0.5 / 2) if layer.role in ("inner", "skip") and self.way else 1.0
        if name in self.way:
            if layer.role in ("skip", "copy", "inner") and self._is_binary(name):
                self.surrogates[name] = {"factor": FLAT, "width": FLAT}
        elif layer.role == "inner" and (self.way or self.adding) and layer.norm:
            # Of SEW branches, each gets an equal part of the gradient's square.
            factor = min(1.0, BRANCHES / self.blocks) if self.way else max(1, self.adding.count(layer.shape)) ** -0.5
            self.surrogates[name] = {"factor": _rounded(factor)}
            size *= factor**0.5
        if size != 1 and layer.norm:
            self._multiply(layer.weights, size)

    def _scale_weights(self, layer: Layer, rate: Callable[[float], float]) -> float:
        """Multiply weights without a norm after them so that the neuron fires, and return the factor."""
        factor = math.exp(_bisect(lambda exponent: rate(math.exp(exponent)) - RATE))
        self._multiply(layer.weights, factor)
        return factor

    def _multiply(self, name: str, factor: float) -> None:
        for attribute, parameter in self.network.get_submodule(name).named_parameters(recurse=False):
            parameter.mul_(factor)
            self.changed.add(f"{name}.{attribute}")

    def _small(self, name: str, current: Tensor) -> Tensor:
        """Return a current of fewer samples."""
        axis = 0 if name in self.single_step else 1
        samples = max(1, _NUMBERS * current.shape[axis] // current.numel())
        return current.narrow(axis, 0, min(samples, current.shape[axis]))

    def _pass_on(self, name: str, fire: Callable[[Tensor], Tensor], normed: Tensor, x: Tensor) -> tuple[float, float]:
        """Return the largest scale at which a neuron changes few of the spikes ``x``, and the shift."""
        normed, x = (self._small(name, tensor.expand_as(x)) for tensor in (normed, x))
        rate = float(x.mean())
        limit = CHANGED / self.passing
        margin = max(limit / 2, 0.01 * rate)

        def shift_at(scale: float) -> float:
            # Any shift of an interval may keep the rate. The middle is farthest from changing spikes.
            def excess(shift: float, by: float) -> float:
                return float(fire(scale * normed + x + shift).mean()) - rate + by

            low, high = _bisect(partial(excess, by=margin)), _bisect(partial(excess, by=-margin))
            return low + (high - low) * (0.5 if self._is_binary(name) else 0.75)

        def changed(scale: float) -> float:
            return float((fire(scale * normed + x + shift_at(scale)) - x).abs().mean())

        if not limit / 2 < changed(self.scale) <= limit:
            low, high = math.log(_SMALLEST), math.log(_LARGEST)
            for _ in range(_HALVINGS):
                middle = (low + high) / 2
                low, high = (middle, high) if changed(math.exp(middle)) <= limit else (low, middle)
            self.scale = math.exp(low)
        return self.scale, shift_at(self.scale)

    def _is_binary(self, name: str) -> bool:
        return bool(getattr(self.neurons[name], "binary", True))

    def _write_copy(self, layer: Layer, x: Tensor, normed: Tensor, scale: float, shift: float) -> Tensor:
        """Let a layer and its norm return their input plus ``scale`` times what they returned, plus ``shift``."""
        module: Any = self.network.get_submodule(layer.weights)
        channels = -1 if isinstance(module, nn.Linear) else 1 - module.weight.dim()
        others = [axis for axis in range(x.dim()) if axis != channels % x.dim()]
        output = self.outputs.pop(f"{layer.weights} out").reshape(x.shape)
        deviation = output.float().std(others, correction=0)
        identity = torch.zeros_like(module.weight)
        nn.init.eye_(identity) if identity.dim() == 2 else nn.init.dirac_(identity)
        factor = (scale / (deviation + 1e-5)).to(identity.dtype)
        module.weight.copy_(identity + module.weight * factor.view(-1, *[1] * (identity.dim() - 1)))
        self.changed.add(f"{layer.weights}.weight")
        if module.bias is not None:
            module.bias.zero_()
            self.changed.add(f"{layer.weights}.bias")
        new = x + scale * normed
        variance, mean = torch.var_mean(new.float(), others, correction=0)
        # The norm adds eps to the variance.
        eps = getattr(self.network.get_submodule(layer.norm), "eps", 0.0)
        self._write_norm(layer.norm, (variance + eps).sqrt(), mean + shift)
        return new + shift

    def _set_heights(self, norms: Mapping[str, float]) -> None:
        """Scale each surrogate on the way by what its neuron's gradient lacks to that of the next one.

        Where sums carry the gradient, as in SEW blocks, it grows by the branches. Their surrogates become lower if it
        more than doubles; each adds to the logarithm of the growth by the square of its height.
        """
        values = [value for name, value in norms.items() if name in self.neurons]
        growth = values[0] / values[-1] if values[-1] > 0 else math.nan
        if not self.way and growth > _GROWTH:
            for name in self.neurons:
                entries = self.surrogates.setdefault(name, {"factor": 1.0})
                entries["factor"] = _rounded(entries["factor"] * math.sqrt(math.log(_GROWTH) / math.log(growth)))
        for name, after in pairwise(name for name in self.way if name in norms):
            if name in self.surrogates and norms[name] > 0 and norms[after] > 0:
                self.surrogates[name]["factor"] = _rounded(self.surrogates[name]["factor"] * norms[after] / norms[name])
        for name in list(self.surrogates):
            entries = self.surrogates[name]
            if not set_surrogate(self.neurons[name], entries["factor"], entries.get("width")):
                self.skipped[name] = "its surrogate cannot be scaled"
                del self.surrogates[name]


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def _fire(neuron: nn.Module, args: Sequence[Any], calls: int, current: Tensor) -> Tensor:
    """Return the spikes of a neuron for a current, from its initial state, averaged over several calls."""
    trial = neuron if isinstance(neuron, Neuron) else _copied(neuron)
    call = trial.forward if isinstance(neuron, Neuron) else trial
    spikes = [first_tensor(call(current, *args[1:])) for _ in range(calls)]
    return spikes[0] if len(spikes) == 1 else torch.stack(spikes).mean(0)


def _copied(neuron: nn.Module) -> nn.Module:
    """Return a copy with its own state and without hooks, which may refer to the rest of the model."""
    memo: dict[int, Any] = detached_states(neuron)
    for module in neuron.modules():
        memo |= {id(value): type(value)() for key, value in vars(module).items() if "_hooks" in key}
    return copy.deepcopy(neuron, memo)


def _bisect(excess: Callable[[float], float]) -> float:
    """Return where a rising function crosses 0, between -4 and 4."""
    low, high = -4.0, 4.0
    for _ in range(_HALVINGS + 3):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) < 0 else (low, middle)
    return (low + high) / 2
