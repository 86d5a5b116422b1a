"""Set the norms of a network one after another, while a batch runs through it.

One pass sets all layers. Hooks keep what a norm returns, and solve for its scale and shift before the neuron runs::

    layers before     layer with weights -----> norm -----------> + -------> neuron -----> layers after
    are set                                       | scale 1,      | residual   ^
                                                  | shift 0                    | the current that scale and shift cause
                                                  +--- kept ----------> solve -+

The order matters. The current of a layer depends on all layers before it, so these are set first, and a layer is set at
the current that it will get in training. The norm has run when its scale and shift are found. The hook therefore hands
the neuron the current that they cause, or the layers after it would be set at another one. The search calls the neuron
without hooks, some ten times for a scale or a shift.

A neuron that takes one time step is set at its first, as if the current stayed. The layers before it may be silent
then, as Norse's cells are. In this case it is set at the end of a pass, at the currents of all steps. Each such layer
needs a pass of its own.
"""

import copy
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .._utils.calls import detached_states, map_tensors
from .._utils.module_state import hooked
from ..introspection.neurons import batch_first_neurons, single_step_neurons
from ..method.taps import first_tensor, tensor_in
from ..neurons import Neuron
from .structure import Layer, Structure, fits, shaped_like, unchangeable

# Chosen by hand: no study has compared other values. What they reach together is measured in docs/depth-figures.md.
RATE = 0.2
"""Spikes per neuron and time step of the layers whose rate a norm's shift sets."""
PROJECTED_RATE = 0.33
"""The same where the skip path has a projection. It drops most positions, so more spikes pass."""
CHANGED = 0.2
"""Share of spikes that all blocks together may change; each gets an equal part."""
# With a projection next to it, of the same scale, the sum has variance 1, as a layer without one.
_PROJECTED_SCALE = 0.5**0.5
# The scale of a norm is searched between these values.
_SMALLEST, _LARGEST = 0.02, 1.0
_HALVINGS = 8
# Shifts are searched between this value and its negative, and so are logarithms of factors.
_LARGEST_SHIFT = 4.0
# Searches run on about this many numbers of a layer's current.
_NUMBERS = 2**16


class Norms:
    """The norms of a network, and the weights whose size or values an initialisation sets."""

    def __init__(self, network: nn.Module, structure: Structure) -> None:
        self.network, self.structure = network, structure
        self.single_step, self.batch_first = single_step_neurons(network), batch_first_neurons(network)
        self.names: set[str] = set()
        """Norms that were set."""
        self.changed: set[str] = set()
        """Parameters that were set."""
        self.factors: dict[str, float] = {}
        """By layer with weights, the number that these were multiplied by."""
        self.waiting: dict[str, Layer] = {}
        """Layers that the batch has not reached."""
        self.trials: dict[str, tuple[nn.Module, Sequence[Any], list[Tensor]]] = {}
        """Neurons of one time step in their initial states, with their other arguments and the currents so far."""
        self.is_over = False
        """Whether a layer was set at the end of this pass. The currents of those after it are not those of training."""
        self.outputs: dict[str, Tensor] = {}
        """The latest outputs of norms and inputs of layers that copy, until a neuron takes them."""
        self.scale = 0.2
        """The scale of the latest norm whose output is added to spikes."""

    def _reset(self) -> None:
        """Let norms return normalised values, and those in membrane shortcuts an equal part of the variance."""
        streams = [layer.shape for layer in self.structure.layers.values() if layer.role == "stream"]
        for layer in self.waiting.values():
            if not layer.norm:
                continue
            scale = 1.0
            if streams and layer.role in ("stream", "projected"):
                scale = max(streams.count(layer.shape), 1) ** -0.5
            self._write_norm(layer.norm, scale, 0.0)
            if layer.projection:
                self._write_norm(layer.projection, _PROJECTED_SCALE if self.structure.main_path else 1.0, 0.0)

    def _write_norm(self, name: str, scale: Any, shift: Any) -> None:
        norm: Any = self.network.get_submodule(name)
        for attribute, value in (("weight", scale), ("bias", shift)):
            parameter = getattr(norm, attribute)
            if parameter is not None:
                parameter.copy_(torch.as_tensor(value, dtype=parameter.dtype).expand_as(parameter))
                self.changed.add(f"{name}.{attribute}")
        self.names.add(name)

    def set(self, run: Callable[[], object]) -> None:
        """Set all norms, and the weights of layers without one."""
        unset = self.structure.skipped | self.structure.frozen
        self.waiting = {name: layer for name, layer in self.structure.layers.items() if name not in unset}
        self._reset()
        modules = dict(nn.Module.named_modules(self.network))
        norms = {layer.norm: modules[layer.norm] for layer in self.waiting.values() if layer.norm}
        weights = {layer.weights: modules[layer.weights] for layer in self.waiting.values() if layer.role == "copy"}

        def keep_output(name: str, module: Any, args: Any, output: Any) -> None:
            # A copy, since a residual may be added in place.
            self.outputs[name] = output.clone()

        def keep_input(name: str, module: Any, args: Any, output: Any) -> None:
            self.outputs[name] = args[0]
            self.outputs[f"{name} out"] = output

        neurons = self.structure.neurons
        left = len(self.waiting) + 1
        with hooked(norms, keep_output), hooked(weights, keep_input), hooked(neurons, pre=self._before_neuron):
            while 0 < len(self.waiting) < left:
                left, self.is_over = len(self.waiting), False
                self.trials.clear()
                run()
        self.trials.clear()
        for layer in self.structure.layers.values():
            for name in self.names & layer.later_norms.keys():
                norm: Any = modules[name]
                for later in layer.later_norms[name]:
                    self._write_norm(later, norm.weight, 0.0 if norm.bias is None else norm.bias)

    def _before_neuron(self, name: str, neuron: nn.Module, args: Any) -> Any:
        """Set the norm of a neuron, and return the current that it causes."""
        layer, current = self.waiting.get(name), tensor_in(args)
        # A neuron of one time step is called again; its norm is set then.
        if layer is None or current is None:
            return None
        normed = self.outputs.pop(layer.norm, None)
        if layer.role == "stream" or (layer.role == "projected" and not self.structure.main_path):
            del self.waiting[name]
            return None
        if layer.role in ("skip", "copy") and _is_late(neuron, args[1:], current):
            # It cannot pass on spikes as they are.
            layer.role = "inner"
        # Pools and reshapes may lie after a norm that is the only source of a current.
        is_summed = layer.role in ("copy", "skip", "projected")
        if layer.norm and (normed is None or (is_summed and not fits(normed, current))):
            self.structure.skipped[name] = f"its norm, {layer.norm}, was called in another order"
            del self.waiting[name]
            return None
        if normed is not None:
            normed = shaped_like(current, normed) if is_summed else normed
            if layer.role == "projected":
                current = current + (_PROJECTED_SCALE - 1) * normed
        search = self._search(layer, neuron, args[1:], current)
        if search is None:
            return None
        del self.waiting[name]
        if normed is None:
            new = self._set_weights(layer, current, *search)
        elif layer.role in ("copy", "skip"):
            new = self._pass_on(layer, current, normed, search[1])
        else:
            new = self._set_rate(layer, current, *search)
        return None if new is None else (new, *args[1:])

    def _set_weights(
        self, layer: Layer, current: Tensor, small: Tensor, fire: Callable[[Tensor], Tensor]
    ) -> Tensor | None:
        """Set the size of the weights of a layer without a norm; return its current, or None if no size will do."""
        target = _target(layer)
        factor = _factor(fire, small, target)
        if not self._reaches(layer.name, fire, small * factor, target):
            return None
        self.multiply(layer, factor)
        return current * factor

    def _set_rate(self, layer: Layer, current: Tensor, small: Tensor, fire: Callable[[Tensor], Tensor]) -> Tensor:
        """Set a norm so that its layer fires at a rate, and return the current."""
        target, factor, shift = _target(layer), 1.0, 0.0
        if self.structure.has_shift(layer):
            shift = _bisect(lambda shift: float(fire(small + shift).mean()) - target)
        else:
            factor = _factor(fire, small, target)
        self._write_norm(layer.norm, factor * (_PROJECTED_SCALE if layer.role == "projected" else 1.0), shift)
        # A norm keeps the shift at which the search ended: the neuron may fire there, if seldom.
        self._reaches(layer.name, fire, small * factor + shift, target)
        return current * factor + shift

    def _pass_on(self, layer: Layer, current: Tensor, normed: Tensor, fire: Callable[[Tensor], Tensor]) -> Tensor:
        """Set a norm so that its layer passes on the spikes that it gets, and return the current."""
        is_copy = layer.role == "copy"
        x = self.outputs.pop(layer.weights).reshape(current.shape) if is_copy else current - normed
        scale, shift = self._largest_scale(layer.name, fire, normed, x)
        if is_copy:
            new = self._write_copy(layer, x, normed, scale, shift)
        else:
            self._write_norm(layer.norm, scale, shift)
            new = scale * normed + shift + x
        self._reaches(layer.name, fire, self._small(layer.name, new), float(x.mean()))
        return new

    def _search(
        self, layer: Layer, neuron: nn.Module, state: Sequence[Any], current: Tensor
    ) -> tuple[Tensor, Callable[[Tensor], Tensor]] | None:
        """Return the currents of fewer samples, and a function from them to spikes; None if later steps are needed."""
        small, axis = self._small(layer.name, current), self._samples_axis(layer.name)
        if (samples := small.shape[axis]) < (all_samples := current.shape[axis]):
            state = map_tensors(lambda x: x[:samples] if x.shape[:1] == (all_samples,) else x, state)
        if layer.name not in self.single_step:
            return small, partial(_fire, neuron, state)
        currents = self._steps(layer, neuron, state, small)
        if currents is None:
            return None
        trial, state, _ = self.trials[layer.name]
        # In a neuron that passes on spikes, later steps would be compared with those of the first.
        if layer.role in ("skip", "copy"):
            return small, partial(_fire, trial, state)
        return currents, partial(_fire_each, trial, state)

    def _steps(self, layer: Layer, neuron: nn.Module, state: Sequence[Any], current: Tensor) -> Tensor | None:
        """Return the currents of all time steps; None if these are not known yet."""
        if layer.name not in self.trials:
            self.trials[layer.name] = _copied(neuron), state, []
        _, _, currents = self.trials[layer.name]
        currents.append(current)
        is_silent = len(current) > 1 and bool((current == current[:1]).all())
        if len(currents) == 1 and not is_silent:
            return current.expand(layer.calls, *current.shape)
        if len(currents) < layer.calls or self.is_over:
            return None
        self.is_over = True
        return torch.stack(currents)

    def _reaches(self, name: str, fire: Callable[[Tensor], Tensor], current: Tensor, target: float) -> bool:
        """Return whether a current causes about the firing rate that was searched; list the neuron if not."""
        rate = float(fire(current).mean())
        if abs(rate - target) <= target / 2:
            return True
        reason = f"a firing rate of {target:.2g} was not reached: the search ended at {rate:.2g}"
        self.structure.skipped[name] = reason
        return False

    @torch.no_grad()
    def multiply(self, layer: Layer, factor: float) -> None:
        """Multiply the weights of a layer."""
        if reason := unchangeable(self.network, layer.weights):
            self.structure.frozen.setdefault(layer.name, reason)
            return
        for attribute, parameter in self.network.get_submodule(layer.weights).named_parameters(recurse=False):
            parameter.mul_(factor)
            self.changed.add(f"{layer.weights}.{attribute}")
        self.factors[layer.weights] = self.factors.get(layer.weights, 1.0) * factor

    def _samples_axis(self, name: str) -> int:
        return 0 if name in self.single_step | self.batch_first else 1

    def _small(self, name: str, current: Tensor) -> Tensor:
        """Return a current of fewer samples."""
        axis = self._samples_axis(name)
        samples = max(1, _NUMBERS * current.shape[axis] // current.numel())
        return current.narrow(axis, 0, min(samples, current.shape[axis]))

    def _largest_scale(
        self, name: str, fire: Callable[[Tensor], Tensor], normed: Tensor, x: Tensor
    ) -> tuple[float, float]:
        """Return the largest scale at which a neuron changes few of the spikes ``x``, and the shift."""
        normed, x = (self._small(name, tensor.expand_as(x)) for tensor in (normed, x))
        rate = float(x.mean())
        limit = CHANGED / self.structure.count("skip", "copy")
        # Half the rate at most: no shift takes more spikes than there are.
        margin = min(max(limit / 2, 0.01 * rate), rate / 2)

        def shift_at(scale: float) -> float:
            # Any shift of an interval may keep the rate. The middle is farthest from changing spikes.
            def excess(shift: float, by: float) -> float:
                return float(fire(scale * normed + x + shift).mean()) - rate + by

            low, high = _bisect(partial(excess, by=margin)), _bisect(partial(excess, by=-margin))
            return low + (high - low) * (0.5 if self.structure.is_binary(name) else 0.75)

        def changed(scale: float) -> float:
            return float((fire(scale * normed + x + shift_at(scale)) - x).abs().mean())

        if not limit / 2 < changed(self.scale) <= limit:
            low, high = math.log(_SMALLEST), math.log(_LARGEST)
            for _ in range(_HALVINGS):
                middle = (low + high) / 2
                low, high = (middle, high) if changed(math.exp(middle)) <= limit else (low, middle)
            self.scale = math.exp(low)
            if (share := changed(self.scale)) > limit:
                reason = f"at every scale of its norm it changes {share:.2g} of the spikes or more, not {limit:.2g}"
                self.structure.frozen.setdefault(name, reason)
        return self.scale, shift_at(self.scale)

    def _write_copy(self, layer: Layer, x: Tensor, normed: Tensor, scale: float, shift: float) -> Tensor:
        """Let a layer and its norm return their input plus ``scale`` times what they returned, plus ``shift``."""
        module: Any = self.network.get_submodule(layer.weights)
        channels = -1 if isinstance(module, nn.Linear) else 1 - module.weight.dim()
        axes = [axis for axis in range(x.dim()) if axis != channels % x.dim()]
        output = self.outputs.pop(f"{layer.weights} out").reshape(x.shape)
        deviation = output.float().std(axes, correction=0)
        identity = torch.zeros_like(module.weight)
        nn.init.eye_(identity) if identity.dim() == 2 else nn.init.dirac_(identity)
        factor = (scale / (deviation + 1e-5)).to(identity.dtype)
        module.weight.copy_(identity + module.weight * factor.view(-1, *[1] * (identity.dim() - 1)))
        self.changed.add(f"{layer.weights}.weight")
        if module.bias is not None:
            module.bias.zero_()
            self.changed.add(f"{layer.weights}.bias")
        new = x + scale * normed
        variance, mean = torch.var_mean(new.float(), axes, correction=0)
        # The norm adds eps to the variance.
        eps = getattr(self.network.get_submodule(layer.norm), "eps", 0.0)
        self._write_norm(layer.norm, (variance + eps).sqrt(), mean + shift)
        return new + shift


def _target(layer: Layer) -> float:
    return PROJECTED_RATE if layer.role == "projected" else RATE


def _fire(neuron: nn.Module, state: Sequence[Any], current: Tensor) -> Tensor:
    """Return the spikes of a neuron for a current."""
    call = neuron.forward if isinstance(neuron, Neuron) else _copied(neuron)
    return first_tensor(call(current, *state))


def _fire_each(neuron: nn.Module, state: Sequence[Any], currents: Tensor) -> Tensor:
    """Return the spikes of a neuron for the currents of several time steps, averaged over these."""
    neuron, spikes = _copied(neuron), list[Tensor]()
    for current in currents:
        output = neuron(current, *state)
        spikes.append(first_tensor(output))
        if isinstance(output, tuple):
            # A neuron that takes its state returns the next one.
            state = (*output[1:], *state[len(output) - 1 :])[: len(state)]
    return torch.stack(spikes).mean(0)


def _is_late(neuron: nn.Module, state: Sequence[Any], current: Tensor) -> bool:
    """Return whether a spike and the largest shift cause no spike in the same time step, as in cells of Norse."""
    return not _fire(neuron, state, torch.full_like(current, 1 + _LARGEST_SHIFT)).any()


def _copied(neuron: nn.Module) -> nn.Module:
    """Return a copy with its own state and without hooks, which may refer to the rest of the model."""
    memo: dict[int, Any] = detached_states(neuron)
    for module in neuron.modules():
        memo |= {id(value): type(value)() for key, value in vars(module).items() if "_hooks" in key}
    return copy.deepcopy(neuron, memo)


def _factor(fire: Callable[[Tensor], Tensor], current: Tensor, target: float) -> float:
    """Return the number by which a current must be multiplied for a firing rate."""
    return math.exp(_bisect(lambda exponent: float(fire(current * math.exp(exponent)).mean()) - target))


def _bisect(excess: Callable[[float], float]) -> float:
    """Return where a rising function crosses 0."""
    low, high = -_LARGEST_SHIFT, _LARGEST_SHIFT
    for _ in range(_HALVINGS + 3):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) < 0 else (low, middle)
    return (low + high) / 2
