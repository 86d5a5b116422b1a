"""Set the surrogates of an initialisation, and those of another copy of a network that was initialised."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from ..introspection import find_neurons, set_surrogate
from ..neurons import Neuron, NormNeuron
from .structure import Layer, Structure

FLAT = 2.4
"""Width of the rectangle that is the surrogate of neurons on the main path."""
BRANCHES = 5.0
"""Sum of the factors on the surrogates inside branches: in training the gradients of branches point the same way."""
FIXED_FROM = 20
"""Number of blocks or layers that pass on spikes from which their norms are not trained.

Many small changes of norms add up: after 300 steps a ResNet-110 had lost the input that it kept at first. Without skip
connections the gradient of a ResNet-34 had exploded after 40 steps.
"""
_GROWTH = 2.0


@dataclass
class NeuronSettings:
    """How an initialisation sets one spiking layer for the backward pass.

    Args:
        factor: on the layer's surrogate.
        width: of the rectangle that first replaces the surrogate; None keeps the layer's own.
        detach_membrane: whether a built-in neuron passes no gradient to the previous time step.
        fixed_norm: whether the norm of a :class:`~shortcut_snn.neurons.NormNeuron` is not trained.
    """

    factor: float = 1.0
    width: float | None = None
    detach_membrane: bool = False
    fixed_norm: bool = False

    def to_entries(self) -> dict[str, float]:
        """Return the settings as numbers, as files and checkpoints hold them; those that are off are left out."""
        others = {"width": self.width, "detach_membrane": self.detach_membrane, "fixed_norm": self.fixed_norm}
        return {"factor": self.factor} | {name: float(value) for name, value in others.items() if value}

    @classmethod
    def from_entries(cls, entries: Mapping[str, float]) -> "NeuronSettings":
        """Return the settings of :meth:`to_entries`."""
        return cls(entries["factor"], entries.get("width"), "detach_membrane" in entries, "fixed_norm" in entries)


def set_surrogates(network: nn.Module, surrogates: Mapping[str, Mapping[str, float]]) -> None:
    """Set the surrogates of a network, as an initialisation has set those of another copy.

    Args:
        network: see :func:`initialise`.
        surrogates: by layer, entries of :class:`NeuronSettings`, as in :attr:`Initialisation.surrogates`.

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
        settings = NeuronSettings.from_entries(entries)
        _set(neurons[name], settings)
        if settings.fixed_norm and isinstance(layer := network.get_submodule(name), NormNeuron):
            layer.norm.requires_grad_(False)


def _set(neuron: nn.Module, settings: NeuronSettings) -> bool:
    # A neuron that is not a step, as PSN, has no membrane.
    if settings.detach_membrane and isinstance(neuron, Neuron) and type(neuron).forward is Neuron.forward:
        neuron.detach_membrane = True
    return set_surrogate(neuron, settings.factor, settings.width)


def set_shapes(structure: Structure, multiply: Callable[[Layer, float], None]) -> dict[str, NeuronSettings]:
    """Return settings with surrogates that are flat on the main path, and low in a branch off this path.

    The spikes of a block that passes on its input do not depend on the previous time step. Surrogates would pass a
    gradient to that step nevertheless, and over many blocks it would exceed the gradient of the step itself.

    Before a norm the size of weights does not matter, but that of a step relative to it. Weights before a low
    surrogate, whose gradient is low, become smaller. Those of all blocks become larger, so that the changes of many
    blocks in one step do not add up to noise. Layers on the only path become larger still, since each multiplies the
    gradient.
    """
    settings = {name: NeuronSettings() for name in structure.main_path}
    adding = [layer.shape for layer in structure.layers.values() if layer.role == "adding"]
    in_blocks = structure.blocks**0.5 / 2
    sizes = {"inner": in_blocks, "skip": in_blocks, "copy": structure.count("copy") ** 0.5}
    many = structure.count("skip", "copy") >= FIXED_FROM
    fixed = {"inner", "skip"} if structure.blocks else {"copy"}
    for name, layer in structure.layers.items():
        if name in structure.usual or name in structure.skipped:
            # A block with a projection adds what the projection drops.
            continue
        size = max(1.0, sizes.get(layer.role, 1.0)) if structure.main_path else 1.0
        if name in structure.main_path:
            if layer.role in ("skip", "copy", "inner") and structure.is_binary(name):
                settings[name] = NeuronSettings(FLAT, FLAT)
            if layer.role in ("skip", "copy"):
                settings[name].detach_membrane = True
        elif layer.role == "inner" and (structure.main_path or adding) and layer.norm:
            # Of SEW branches, each gets an equal part of the gradient's square.
            equal = max(1, adding.count(layer.shape)) ** -0.5
            factor = min(1.0, BRANCHES / structure.blocks) if structure.main_path else equal
            settings[name] = NeuronSettings(_rounded(factor))
            size *= factor**0.5
        if size != 1 and layer.norm:
            multiply(layer, size)
        if structure.main_path and layer.role in fixed and layer.norm and many:
            settings[name].fixed_norm = True
    return settings


def set_heights(structure: Structure, settings: dict[str, NeuronSettings], norms: Mapping[str, float]) -> None:
    """Scale, in place, each surrogate on the main path by what its neuron's gradient lacks to that of the next one.

    Where sums carry the gradient, as in SEW blocks, it grows by the branches. Their surrogates become lower if it
    more than doubles; each adds to the logarithm of the growth by the square of its height.
    """
    values = [value for name, value in norms.items() if name in structure.neurons]
    growth = values[0] / values[-1] if values[-1] > 0 else math.nan
    if not structure.main_path and growth > _GROWTH:
        for name in structure.neurons:
            layer = settings.setdefault(name, NeuronSettings())
            layer.factor = _rounded(layer.factor * math.sqrt(math.log(_GROWTH) / math.log(growth)))
    for name, after in pairwise(name for name in structure.main_path if name in norms):
        if name in settings and norms[name] > 0 and norms[after] > 0:
            settings[name].factor = _rounded(settings[name].factor * norms[after] / norms[name])
    for name, layer in list(settings.items()):
        if not _set(structure.neurons[name], layer):
            structure.skipped[name] = "its surrogate cannot be scaled"
            del settings[name]


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
