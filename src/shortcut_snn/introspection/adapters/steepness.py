"""The steepness of a third-party neuron's surrogate gradient, read and set."""

import copy
from functools import update_wrapper
from types import CellType, FunctionType
from typing import Any

import torch
from torch import nn


def steepness(neuron: nn.Module, value: float | None = None) -> float | None:
    """Return the steepness of a neuron's surrogate; None if the neuron has no such number.

    Args:
        neuron: of SpikingJelly (its surrogate has an ``alpha``), of snnTorch (its ``spike_grad`` is a closure over a
            ``slope`` or an ``alpha``), or of Norse (its parameters have an ``alpha``).
        value: the new steepness, for this neuron alone.

    Example:
        >>> steepness(nn.ReLU()) is None
        True
    """
    surrogate: Any = getattr(neuron, "surrogate_function", None)
    if hasattr(surrogate, "alpha"):
        return _of_spikingjelly(neuron, surrogate, value)
    parameters: Any = getattr(neuron, "p", None)
    if hasattr(parameters, "alpha") and hasattr(parameters, "_replace"):
        return _of_norse(neuron, parameters, value)
    function: Any = getattr(neuron, "spike_grad", None)
    if isinstance(function, FunctionType):
        return _of_snntorch(neuron, function, value)
    return None


def _of_spikingjelly(neuron: Any, surrogate: Any, value: float | None) -> float:
    if value is not None:
        # A surrogate may be shared by several neurons.
        surrogate = neuron.surrogate_function = copy.copy(surrogate)
        surrogate.alpha = value
    return float(surrogate.alpha)


def _of_norse(neuron: Any, parameters: Any, value: float | None) -> float:
    if value is not None:
        parameters = neuron.p = parameters._replace(alpha=torch.as_tensor(value))
    return float(parameters.alpha)


def _of_snntorch(neuron: Any, function: FunctionType, value: float | None) -> float | None:
    names = function.__code__.co_freevars
    for name in {"slope", "alpha"}.intersection(names):
        cells = list(function.__closure__ or ())
        if value is not None:
            cells[names.index(name)] = CellType(value)
            twin = FunctionType(function.__code__, function.__globals__, closure=tuple(cells))
            neuron.spike_grad = update_wrapper(twin, function)
        return float(cells[names.index(name)].cell_contents)
    return None
