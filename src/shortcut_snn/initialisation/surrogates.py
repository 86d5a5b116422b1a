"""Set the surrogates of an initialisation, also in another copy of the network."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from ..introspection.neurons import find_neurons
from ..neurons import Neuron, NormNeuron, Rectangle, straight_through
from ..neurons.surrogate import Scaled
from .structure import Layer, Path, Structure

# Where libraries keep the function from the distance to the threshold to a spike.
_FUNCTIONS = ("surrogate_function", "spike_grad")
FLAT_WIDTH = 2.4
"""Width of the rectangle that replaces surrogates of layers that pass on spikes. Chosen by hand."""
SUM_IN_BRANCHES = 5.0
"""Sum of the factors on the surrogates inside branches: in training the gradients of branches point the same way.

Chosen by hand. The gradient grows 12 times over 110 layers, and 1,140 times over 1,000 (docs/depth-figures.md).
"""
FIXED_FROM = 20
"""Number of blocks or layers that pass on spikes from which their norms are not trained.

Many small changes of norms add up: after 300 steps a ResNet-110 had lost the input that it kept at first. Without skip
connections the gradient of a ResNet-34 had exploded after 40 steps. Without this rule and detached membranes a
ResNet-110 has 52.6 % on digits, with them 99.2 % (docs/depth-figures.md). The number 20 was chosen by hand.
"""
LARGEST_GROWTH = 2.0
"""Growth of the gradient over sums of spikes or currents above which surrogates become lower. Chosen by hand."""


@dataclass
class NeuronSettings:
    """How an initialisation sets one spiking layer for the backward pass."""

    factor: float = 1.0
    """On the layer's surrogate, or on a rectangle of ``width`` that first replaces it."""
    width: float | None = None
    detach_membrane: bool = False
    """Whether a built-in neuron passes no gradient to the previous time step."""
    fixed_norm: bool = False
    """Whether the norm of a :class:`~shortcut_snn.neurons.NormNeuron` is not trained."""

    def to_entries(self) -> dict[str, float]:
        """Return the settings as numbers, as files and checkpoints hold them; those that are off are left out."""
        return {name: float(value) for name, value in vars(self).items() if value or name == "factor"}


def set_surrogates(network: nn.Module, surrogates: Mapping[str, Mapping[str, float]]) -> None:
    """Set the surrogates of a network to those of an initialised copy.

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
    for name in surrogates.keys() - neurons.keys():
        raise ValueError(f"{type(network).__name__} has no spiking layer {name!r} whose surrogate could be set")
    for name, entries in surrogates.items():
        settings = NeuronSettings(**entries)  # type: ignore[arg-type]
        _set(neurons[name], settings)
        if settings.fixed_norm and isinstance(layer := network.get_submodule(name), NormNeuron):
            layer.norm.requires_grad_(False)


def _set(neuron: nn.Module, settings: NeuronSettings) -> bool:
    # A neuron that is not a step, as PSN, has no membrane.
    if settings.detach_membrane and isinstance(neuron, Neuron) and type(neuron).forward is Neuron.forward:
        neuron.detach_membrane = True
    return set_surrogate(neuron, settings.factor, settings.width)


def set_surrogate(neuron: nn.Module, factor: float, width: float | None = None) -> bool:
    """Multiply the surrogate that a neuron was built with by a factor; return False if it has none that is known.

    A second call replaces the first one's factor. A width first replaces the surrogate by a rectangle of area 1.
    """
    if isinstance(neuron, Neuron):
        surrogate: Any = neuron.surrogate
        own = surrogate.surrogate if isinstance(surrogate, Scaled) else surrogate
        neuron.surrogate = Scaled(own if width is None else Rectangle(width), factor)
        return True
    for name in _FUNCTIONS:
        function: Any = getattr(neuron, name, None)
        # SpikingJelly's I-LIF takes a sequence with this function alone.
        if type(function).__name__ == "MultiLevelSpikeCount" and getattr(neuron, "step_mode", "s") == "m":
            return False
        if callable(function):
            own = function.function if isinstance(function, ScaledSpike) else function
            setattr(neuron, name, ScaledSpike(own, factor, width))
            return True
    return False


class ScaledSpike(nn.Module):
    """A library's spike function with its derivative, or that of a rectangle of a width, times a factor.

    Example:
        >>> import torch
        >>> v = torch.tensor([-0.5, 0.5], requires_grad=True)
        >>> ScaledSpike(lambda v: (v > 0).float(), 3.0, 2.0)(v).sum().backward()
        >>> v.grad
        tensor([1.5000, 1.5000])
    """

    def __init__(self, function: Callable[[Tensor], Tensor], factor: float, width: float | None = None) -> None:
        super().__init__()
        self.function, self.factor, self.width = function, factor, width

    def __getattr__(self, name: str) -> Any:
        """Return other attributes of the function, such as those that SpikingJelly's CLIF reads in eval mode."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            # A copy has no function at first.
            if name == "function":
                raise
            return getattr(self.function, name)

    def forward(self, v: Tensor) -> Tensor:
        """Return spikes."""
        spikes = self.function(v)
        if self.width is not None:
            return straight_through(spikes, v, Scaled(Rectangle(self.width), self.factor))
        return spikes + (self.factor - 1) * (spikes - spikes.detach())


def _by_blocks(structure: Structure, layer: Layer) -> float:
    return max(1.0, math.sqrt(structure.blocks) / 2)


def _equal_square(structure: Structure, layer: Layer) -> float:
    adding = [other.shape for other in structure.layers.values() if other.role == "adding"]
    return float(max(1, adding.count(layer.shape)) ** -0.5)


Number = Callable[[Structure, Layer], float]


@dataclass(frozen=True)
class Rule:
    """Settings of the layers of one role in networks of one path.

    Args:
        flat: replace the surrogate of a binary neuron by a rectangle of :data:`FLAT_WIDTH`, of height 1.
        detach_membrane: pass no gradient to the previous time step. The spikes of a layer that passes on its input do
            not depend on that step. Over many blocks, its gradient would exceed that of the step itself.
        factor: on the surrogate, where branches share the gradient.
        size: multiplies the weights before a norm, which takes it back. Only a training step relative to it changes:
            the changes of many blocks in one step do not add up to noise. On the only path each layer multiplies the
            gradient, so weights become larger still. Weights before a low surrogate also get the root of its factor.
        fixed_norm: from :data:`FIXED_FROM` layers on, do not train the norm.
    """

    flat: bool = False
    detach_membrane: bool = False
    factor: Number | None = None
    size: Number | None = None
    fixed_norm: bool = False


RULES: dict[tuple[Path, str], Rule] = {
    ("blocks", "skip"): Rule(flat=True, detach_membrane=True, size=_by_blocks, fixed_norm=True),
    ("blocks", "inner"): Rule(
        factor=lambda structure, layer: min(1.0, SUM_IN_BRANCHES / structure.blocks), size=_by_blocks, fixed_norm=True
    ),
    ("layers", "copy"): Rule(
        flat=True,
        detach_membrane=True,
        size=lambda structure, layer: math.sqrt(structure.count("copy")),
        fixed_norm=True,
    ),
    ("layers", "inner"): Rule(flat=True),
    ("spikes", "inner"): Rule(factor=_equal_square),
}
"""By path and role. Layers without a rule keep their surrogates and weights."""


def set_shapes(structure: Structure, multiply: Callable[[Layer, float], None]) -> dict[str, NeuronSettings]:
    """Return settings with surrogates that are flat on the main path, and low in a branch off this path."""
    settings = {name: NeuronSettings() for name in structure.main_path}
    many = structure.count("skip", "copy") >= FIXED_FROM
    for name, layer in structure.layers.items():
        rule = RULES.get((structure.path, layer.role))
        # A block with a projection adds what the projection drops.
        if rule is None or name in structure.skipped or name in structure.next_to_projection:
            continue
        if not rule.flat and not layer.norm:
            continue
        factor = rule.factor(structure, layer) if rule.factor else 1.0
        size = (rule.size(structure, layer) if rule.size else 1.0) * factor**0.5
        settings[name] = (
            NeuronSettings(FLAT_WIDTH, FLAT_WIDTH)
            if rule.flat and structure.is_binary(name)
            else NeuronSettings(_rounded(factor))
        )
        settings[name].detach_membrane = rule.detach_membrane
        settings[name].fixed_norm = rule.fixed_norm and many
        if size != 1:
            multiply(layer, size)
    return settings


def set_heights(structure: Structure, settings: dict[str, NeuronSettings], norms: Mapping[str, float]) -> None:
    """Scale, in place, each surrogate on the main path by what its neuron's gradient lacks to that of the next one.

    Where sums carry the gradient, as in SEW blocks, it grows by the branches. Their surrogates become lower if it
    more than doubles; each adds to the logarithm of the growth by the square of its height.
    """
    values = [value for name, value in norms.items() if name in structure.neurons]
    growth = values[0] / values[-1] if values[-1] > 0 else math.nan
    if not structure.main_path and growth > LARGEST_GROWTH:
        for name in structure.neurons:
            layer = settings.setdefault(name, NeuronSettings())
            layer.factor = _rounded(layer.factor * math.sqrt(math.log(LARGEST_GROWTH) / math.log(growth)))
    for name, after in pairwise(name for name in structure.main_path if name in norms):
        if name in settings and norms[name] > 0 and norms[after] > 0:
            settings[name].factor = _rounded(settings[name].factor * norms[after] / norms[name])
    for name, layer in list(settings.items()):
        if not _set(structure.neurons[name], layer):
            structure.skipped[name] = "its surrogate cannot be scaled"
            del settings[name]


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
