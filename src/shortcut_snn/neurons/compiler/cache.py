"""Keep traced steps: one for each neuron, and one for all built-in neurons with the same attributes."""

import warnings
from typing import Any

import torch

from .lowering import CannotTraceError, TracedStep
from .trace import trace

# Steps of built-in neurons by their attributes. A surrogate that changes at every training step would fill it.
_SHARED: dict[tuple[Any, ...], TracedStep] = {}
_MAX_SHARED = 1000
_warned: set[type] = set()


def traced(neuron: Any) -> TracedStep | None:
    """Return a neuron's traced step, or None (and warn once) if its step cannot be traced.

    A step is traced again after an assignment to an attribute of the neuron. A change that is not an assignment to the
    neuron is not seen: of a global variable, of a number in a closure, or within a list or an object that it holds.

    Example:
        >>> from shortcut_snn.neurons import LIF
        >>> traced(LIF(decay=0.5)).text.split(";")[:2]
        ['v0=mul c0 s0', 'v1=add v0 i']
    """
    step: TracedStep | None = _traced(neuron, neuron._attributes_version, neuron.training)
    return step


# A compiled network takes the program as a constant and guards the version, so it is compiled again after a change.
# In torch 2.9 such a constant breaks the graph; 2.13 is the first release that was tested to work.
_constant: Any = torch.compiler.assume_constant_result if torch.__version__ >= "2.13" else torch.compiler.disable


@_constant  # type: ignore[untyped-decorator]
def _traced(neuron: Any, version: str, training: bool) -> TracedStep | None:
    # One for training and one for evaluation, since a step may read ``self.training`` and networks switch often.
    steps: dict[bool, tuple[str, TracedStep | None]] = vars(neuron).setdefault("_traced_steps", {})
    if training not in steps or steps[training][0] != version:
        steps[training] = version, _trace(neuron)
    return steps[training][1]


def _trace(neuron: Any) -> TracedStep | None:
    key = _attributes(neuron)
    if key in _SHARED:
        return _SHARED[key]
    try:
        step = trace(neuron, len(neuron.states))
    except CannotTraceError as error:
        kind = type(neuron)
        if kind not in _warned:
            _warned.add(kind)
            warnings.warn(
                f"{kind.__name__} runs step by step in plain PyTorch, slower and with more memory: {error}",
                stacklevel=2,
            )
        return None
    if key is not None:
        if len(_SHARED) >= _MAX_SHARED:
            _SHARED.clear()
        _SHARED[key] = step
    return step


def _attributes(neuron: Any) -> tuple[Any, ...] | None:
    """Return what determines the step of a built-in neuron; None for other neurons, whose step may read anything."""
    parts = (neuron, neuron.surrogate)
    package = __package__.rpartition(".")[0]
    if neuron._modules or not all(type(part).__module__.startswith(f"{package}.") for part in parts):
        return None
    tensors = {**neuron._parameters, **neuron._buffers}
    attributes: list[Any] = [(name, value is None) for name, value in tensors.items()]
    for part in parts:
        attributes.append(type(part))
        for name, value in vars(part).items():
            if name[0] != "_" and value is not neuron.surrogate:
                if not isinstance(value, int | float | str | None):
                    return None
                # The type counts too: 1 and 1.0 are equal, but one is a literal and one a constant.
                attributes.append((name, type(value), value))
    return tuple(attributes)
