"""Calibrating surrogates of other libraries, whose neurons may be called once a batch or once a time step.

No backward pass through time can wait at a neuron until the gradients of all its steps have come. So the graph is cut
at every neuron: what it gives goes on without its graph, and then, from the last neuron to the first, all its calls are
repeated from rest with surrogates of other steepness, and the gradient that was chosen goes on to the neurons before.
"""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from ..introspection import reset_of, steepness
from ..method import detached_states
from ..module_state import preserving_state
from .probe import square_sum

# The norm may rise with the steepness and then fall: an interval where it crosses the target comes first.
_OCTAVES = [number / 2 for number in range(-10, 11)]
_HALVINGS = 12


def steepness_by_layer(
    model: nn.Module, layers: Mapping[str, nn.Module], total: Callable[[], Tensor]
) -> dict[str, float]:
    """Return the steepness of each neuron's surrogate at which the gradient keeps the norm that it has at the last.

    Args:
        model: what is run; it is left as it was.
        layers: its neurons by name.
        total: runs it and returns the loss.

    Raises:
        ValueError: a surrogate that has nothing to set, or spikes that come back to the neuron that gave them.
    """
    for name, neuron in layers.items():
        if not steepness(neuron):
            raise _without_width(name, neuron)
    cuts: dict[str, _Cut] = {}
    rest, handles = reset_of(model, None), []
    with preserving_state(model):
        for name, neuron in layers.items():
            cut = _Cut(name, neuron, cuts)
            handles.append(neuron.register_forward_pre_hook(cut.before, with_kwargs=True))
            handles.append(neuron.register_forward_hook(cut.after))
        try:
            rest(model)
            loss = total()
        finally:
            for handle in handles:
                handle.remove()
            rest(model)
        ends = [end for cut in cuts.values() for end in cut.ends if end.requires_grad]
        if ends:
            torch.autograd.backward(loss, retain_graph=True, inputs=ends)
        found: dict[str, float] = {}
        target = 0.0
        for name, cut in reversed(cuts.items()):
            now = cut.gradient()
            if target and _norm(now):
                found[name] = _search(cut, target)
                now = cut.gradient(found[name])
            target = target or _norm(now)
            for end in cut.ends:
                end.grad = None
            back = [(x, g) for x, g in zip(cut.currents, now, strict=True) if x.requires_grad and g is not None]
            if back:
                currents, grads = zip(*back, strict=True)
                torch.autograd.backward(currents, grads, retain_graph=True, inputs=ends)
        for name, cut in cuts.items():
            # All were emptied: what is there came from a neuron before.
            if any(end.grad is not None and end.grad.any() for end in cut.ends):
                raise ValueError(
                    f"spikes of {name} come back to {name} or to a layer before it, so that its surrogate cannot be "
                    "calibrated: give each layer a neuron of its own, or choose a method without calibration"
                )
    return found


class _Cut:
    """The calls of one neuron in a pass, and how they are repeated."""

    def __init__(self, name: str, neuron: nn.Module, cuts: "dict[str, _Cut]") -> None:
        self.name, self.neuron, self.cuts = name, neuron, cuts
        self.calls: list[tuple[Any, Any]] = []
        self.currents: list[Tensor] = []
        self.given: list[Any] = []
        self.ends: list[Tensor] = []
        """What it gave, call by call, as leaves where gradients arrive."""

    def before(self, neuron: nn.Module, args: Any, kwargs: Any) -> Any:
        if not self.calls:
            self.cuts[self.name], self.rest = self, _twin(neuron)
        self.calls.append((args, kwargs))
        self.currents.append(args[0])
        return tree_map_only(Tensor, Tensor.detach, (args, kwargs))

    def after(self, neuron: nn.Module, args: Any, output: Any) -> Any:
        def cut(y: Tensor) -> Tensor:
            self.ends.append(y.detach().requires_grad_(y.is_floating_point()))
            # What comes next may change it in place.
            return self.ends[-1].clone()

        self.given.append(tree_map_only(Tensor, cut, output))
        return self.given[-1]

    def gradient(self, value: float | None = None) -> list[Tensor | None]:
        """The gradient at the current of each call, with a surrogate of another steepness."""
        twin = _twin(self.rest)
        steepness(twin, value)
        made: dict[int, Tensor] = {}
        currents, ends = [], iter(self.ends)
        outputs, grads = [], []
        with torch.enable_grad():
            for (args, kwargs), given in zip(self.calls, self.given, strict=True):
                # A state may be handed on outside, from one call to the next.
                (_, *others), kwargs = tree_map_only(Tensor, lambda x: made.get(id(x), x.detach()), (args, kwargs))
                currents.append(args[0].detach().clone().requires_grad_())
                repeated = twin(currents[-1], *others, **kwargs)
                for old, new in zip(tree_leaves(given), tree_leaves(repeated), strict=True):
                    if isinstance(old, Tensor):
                        made[id(old)] = new
                        grad = next(ends).grad
                        if grad is not None and new.requires_grad:
                            outputs.append(new)
                            grads.append(grad)
        if not outputs:
            return [None] * len(currents)
        return list(torch.autograd.grad(outputs, currents, grads, allow_unused=True))


def _search(cut: _Cut, target: float) -> float:
    """Return the steepness nearest to the neuron's own at which the norm is the target, or else is nearest to it."""
    own = steepness(cut.rest)
    assert own

    def off(octave: float) -> float:
        norm = _norm(cut.gradient(rounded(own * 2.0**octave)))
        # Some surrogates overflow where they are steep.
        return math.log(norm / target) if 0 < norm < math.inf else -math.inf if norm == 0 else math.nan

    grid = [off(octave) for octave in _OCTAVES]
    told = {octave: value for octave, value in zip(_OCTAVES, grid, strict=True) if not math.isnan(value)}
    if told and max(told.values()) - min(told.values()) < 1e-6:
        raise _without_width(cut.name, cut.neuron)
    crossed = [n for n in range(len(grid) - 1) if grid[n] * grid[n + 1] <= 0]
    if not crossed:
        return rounded(own * 2.0 ** min(told, key=lambda octave: abs(told[octave]), default=0.0))
    first = min(crossed, key=lambda n: abs(_OCTAVES[n] + _OCTAVES[n + 1]))
    low, high, rising = _OCTAVES[first], _OCTAVES[first + 1], grid[first] < grid[first + 1]
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if (off(middle) < 0) == rising else (low, middle)
    return rounded(own * 2.0 ** ((low + high) / 2))


def _twin(neuron: nn.Module) -> nn.Module:
    """A copy with a state of its own, and without hooks, which would lead to all that they belong to."""
    memo: dict[int, Any] = detached_states(neuron)
    for module in neuron.modules():
        memo |= {id(value): type(value)() for key, value in vars(module).items() if "_hooks" in key}
    return copy.deepcopy(neuron, memo)


def _without_width(name: str, neuron: nn.Module) -> ValueError:
    return ValueError(
        f"the surrogate of {name}, a {type(neuron).__name__}, has no width that could be calibrated: give it another, "
        "or choose a method without calibration"
    )


def _norm(grads: Sequence[Tensor | None]) -> float:
    return math.sqrt(sum(float(square_sum(grad)) for grad in grads if grad is not None))


def rounded(value: float) -> float:
    """Return a width as it is kept, with four digits."""
    return float(f"{value:.4g}")
