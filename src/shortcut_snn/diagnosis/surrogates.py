"""Set the surrogates of an initialisation, and those of another copy of a network that was initialised."""

import math
from collections.abc import Callable, Mapping
from itertools import pairwise

from torch import nn

from ..introspection import find_neurons, set_surrogate
from ..neurons import Neuron, NormNeuron
from .structure import Layer, Structure

FLAT = 2.4
"""Width of the rectangle that is the surrogate on the way of the input."""
BRANCHES = 5.0
"""Sum of the factors on the surrogates inside branches: in training the gradients of branches point the same way."""
FIXED_FROM = 30
"""Number of blocks that pass on spikes from which their norms are not trained.

Many small changes of norms add up: after 300 steps a ResNet-110 had lost the input that it kept at first.
"""
_GROWTH = 2.0

Surrogates = dict[str, dict[str, float]]
"""By layer, a ``factor`` on its surrogate. With a ``width``, the surrogate is first replaced by such a rectangle.

With ``detach_membrane``, a built-in neuron passes no gradient to the previous time step. With ``fixed_norm``, the norm
of a :class:`~shortcut_snn.neurons.NormNeuron` is not trained.
"""


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
        _set(neurons[name], entries)
        if "fixed_norm" in entries and isinstance(layer := network.get_submodule(name), NormNeuron):
            layer.norm.requires_grad_(False)


def _set(neuron: nn.Module, entries: Mapping[str, float]) -> bool:
    # A neuron that is not a step, as PSN, has no membrane.
    if "detach_membrane" in entries and isinstance(neuron, Neuron) and type(neuron).forward is Neuron.forward:
        neuron.detach_membrane = True
    return set_surrogate(neuron, entries["factor"], entries.get("width"))


def set_shapes(structure: Structure, multiply: Callable[[Layer, float], None]) -> Surrogates:
    """Return surrogates that are flat on the way of the input, and low in a branch off this way.

    The spikes of a block that passes on its input do not depend on the previous time step. Surrogates would pass a
    gradient to that step nevertheless, and over many blocks it would exceed the gradient of the step itself.

    Before a norm the size of weights does not matter, but that of a step relative to it. Weights before a low
    surrogate, whose gradient is low, become smaller. Those of all blocks become larger, so that the changes of many
    blocks in one step do not add up to noise.

    Args:
        structure: of the network.
        multiply: multiplies the weights of a layer.
    """
    surrogates: Surrogates = {name: {"factor": 1.0} for name in structure.way}
    adding = [layer.shape for layer in structure.layers.values() if layer.role == "adding"]
    for name, layer in structure.layers.items():
        if name in structure.usual or name in structure.skipped:
            # A block with a projection adds what the projection drops.
            continue
        size = max(1.0, structure.blocks**0.5 / 2) if layer.role in ("inner", "skip") and structure.way else 1.0
        if name in structure.way:
            if layer.role in ("skip", "copy", "inner") and structure.is_binary(name):
                surrogates[name] = {"factor": FLAT, "width": FLAT}
            if layer.role in ("skip", "copy"):
                surrogates[name]["detach_membrane"] = 1.0
        elif layer.role == "inner" and (structure.way or adding) and layer.norm:
            # Of SEW branches, each gets an equal part of the gradient's square.
            equal = max(1, adding.count(layer.shape)) ** -0.5
            factor = min(1.0, BRANCHES / structure.blocks) if structure.way else equal
            surrogates[name] = {"factor": _rounded(factor)}
            size *= factor**0.5
        if size != 1 and layer.norm:
            multiply(layer, size)
        if structure.way and layer.role in ("inner", "skip") and layer.norm and structure.count("skip") >= FIXED_FROM:
            surrogates[name]["fixed_norm"] = 1.0
    return surrogates


def set_heights(structure: Structure, surrogates: Surrogates, norms: Mapping[str, float]) -> None:
    """Scale each surrogate on the way by what its neuron's gradient lacks to that of the next one.

    Where sums carry the gradient, as in SEW blocks, it grows by the branches. Their surrogates become lower if it
    more than doubles; each adds to the logarithm of the growth by the square of its height.

    Args:
        structure: of the network.
        surrogates: changed in place.
        norms: of the gradient, by neuron.
    """
    values = [value for name, value in norms.items() if name in structure.neurons]
    growth = values[0] / values[-1] if values[-1] > 0 else math.nan
    if not structure.way and growth > _GROWTH:
        for name in structure.neurons:
            entries = surrogates.setdefault(name, {"factor": 1.0})
            entries["factor"] = _rounded(entries["factor"] * math.sqrt(math.log(_GROWTH) / math.log(growth)))
    for name, after in pairwise(name for name in structure.way if name in norms):
        if name in surrogates and norms[name] > 0 and norms[after] > 0:
            surrogates[name]["factor"] = _rounded(surrogates[name]["factor"] * norms[after] / norms[name])
    for name, entries in list(surrogates.items()):
        if not _set(structure.neurons[name], entries):
            structure.skipped[name] = "its surrogate cannot be scaled"
            del surrogates[name]


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
