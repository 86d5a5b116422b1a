"""The base class of the built-in networks, and how a network is built for its data."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from ..method import Layout, Tap
from ..method.placement import resolve
from ..neurons import Neuron, NormNeuron
from .options import check_choice, check_sizes
from .roles import declared_roles

Norm = Literal["bn", "tdbn"]
Readout = Literal["mean", "sequence"]
Count = Annotated[int, Ge(1)]
ClassifierStd = Literal["1/inputs"] | Annotated[float, Gt(0)] | None
"""Standard deviation of a classifier's initial weights, with biases of 0; None for torch's initialisation."""


class SpikingNetwork(nn.Module):
    """Base class of networks: features of every time step, then a linear readout.

    A subclass sets ``stage_names``, implements :meth:`features`, and creates ``classifier`` as its last submodule.
    The built-in networks take all of these arguments; the constructor of this class takes the first four.

    Args:
        num_classes: width of the logits.
        time_steps: number of time steps T.
        in_channels: 3 for colour, 1 for grey, 2 for event frames (polarities).
        readout: ``"mean"`` averages over time before the linear layer and returns ``[N, num_classes]``;
            ``"sequence"`` returns the logits of every step, ``[T, N, num_classes]``.
        make_neuron: creates each layer's neuron; the paper's LIF by default.
        norm: ``"bn"`` or ``"tdbn"``, batch normalisation that starts at the threshold.
        classifier_std: standard deviation of the classifier's initial weights, with biases of 0: a number, or
            ``"1/inputs"`` for one over its inputs. None for torch's initialisation.

    Raises:
        ValueError: a size is not positive, or the readout is unknown.

    Example:
        >>> from shortcut_snn.neurons import LIF
        >>> class Flat(SpikingNetwork):
        ...     stage_names = ["spike"]
        ...     def __init__(self):
        ...         super().__init__(num_classes=5, time_steps=4, in_channels=3, readout="mean")
        ...         self.spike, self.classifier = LIF(), nn.Linear(12, 5)
        ...     def features(self, x):
        ...         return self.spike(x.expand(self.time_steps, *x.shape[1:])).flatten(2)
        >>> Flat()(torch.rand(8, 3, 2, 2)).shape
        torch.Size([8, 5])
    """

    stage_names: list[str]
    classifier: nn.Linear

    def __init__(self, num_classes: int, time_steps: int, in_channels: int, readout: Readout) -> None:
        super().__init__()
        check_sizes(num_classes=num_classes, time_steps=time_steps, in_channels=in_channels)
        check_choice("readout", readout, Readout)
        self.num_classes, self.time_steps, self.in_channels = num_classes, time_steps, in_channels
        self.readout = readout

    def features(self, x: Tensor) -> Tensor:
        """Map images ``[1, N, C, H, W]`` or frames ``[T, N, C, H, W]`` to averaged spikes ``[T, N, F]``."""
        raise NotImplementedError

    def example_input(self) -> Tensor:
        """Return a batch of two 32x32 images of zeros, on the network's device, for a dry pass."""
        weight = self.classifier.weight
        return torch.zeros(2, self.in_channels, 32, 32, device=weight.device, dtype=weight.dtype)

    def layout(self, taps: str | Sequence[str] = ()) -> Layout:
        """Return how the network is called and read, with branches at some places.

        Args:
            taps: ``"stages"`` (the end of each stage but the last), ``"blocks"`` (each block but the last), or names of
                submodules.

        Raises:
            ValueError: an unknown place.
        """
        points = tuple(Tap(name, time_axis=0) for name in resolve(self, taps))
        return Layout(library="shortcut_snn", time_steps=self.time_steps, num_classes=self.num_classes, taps=points)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``[N, num_classes]`` (``[T, N, num_classes]`` with readout ``"sequence"``).

        Args:
            x: static images ``[N, C, H, W]``, a constant current at every time step, or frames
                ``[T, N, C, H, W]``.

        Raises:
            ValueError: the number of axes, channels or time steps is not the network's.
        """
        features = self.features(self.as_sequence(x))
        if self.readout == "mean":
            features = features.mean(0)
        logits: Tensor = self.classifier(features)
        return logits

    def as_sequence(self, x: Tensor) -> Tensor:
        """Return an input that was checked as ``[T, N, C, H, W]``, a static image as ``[1, N, C, H, W]``."""
        if not isinstance(x, Tensor):
            raise TypeError(f"the network takes a tensor, got {type(x).__name__}")
        if x.dim() not in (4, 5):
            raise ValueError(f"expected images [N, C, H, W] or frames [T, N, C, H, W], got shape {tuple(x.shape)}")
        if x.shape[-3] != self.in_channels:
            raise ValueError(f"the network takes {self.in_channels} channels, got {x.shape[-3]} in {tuple(x.shape)}")
        if 0 in x.shape[-2:]:
            raise ValueError(f"images need a height and width of at least 1, got {tuple(x.shape)}")
        self._check_kind(x)
        if x.dim() == 4:
            return x.unsqueeze(0)
        if x.shape[0] != self.time_steps:
            raise ValueError(
                f"the network runs {self.time_steps} time steps, got {x.shape[0]} frames in {tuple(x.shape)}"
            )
        return x

    def _check_kind(self, x: Tensor) -> None:
        # Of the first layer: a deployed network may have its classifier in another precision.
        weight = self.classifier.weight
        for module in self.modules():
            # A tuple of types, and a loop, since torch 2.9 cannot compile their union or a generator.
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                weight = module.weight
                break
        if x.device != weight.device:
            raise ValueError(f"the input is on {x.device} and the network on {weight.device}")
        if not x.is_floating_point():
            raise ValueError(f"the network takes normalised floating-point images, got {x.dtype}")
        if x.dtype != weight.dtype and not torch.is_autocast_enabled(x.device.type):
            raise ValueError(f"the input is {x.dtype} and the network {weight.dtype}")

    def _initialise(self, norm: Norm, classifier_std: ClassifierStd) -> None:
        """Initialise the weights of convolutions, norms and the classifier."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        check_choice("norm", norm, Norm)
        if norm == "tdbn":
            start_at_threshold(self)
        if classifier_std is not None:
            std = 1.0 / self.classifier.in_features if classifier_std == "1/inputs" else classifier_std
            if not (isinstance(std, float | int) and 0 < std < float("inf")):
                raise ValueError(f"classifier_std must be a number > 0, '1/inputs' or None, got {classifier_std!r}")
            nn.init.normal_(self.classifier.weight, 0.0, std)
            nn.init.zeros_(self.classifier.bias)


@torch.no_grad()
def start_at_threshold(network: nn.Module) -> None:
    """Make batch norms over time and batch threshold-dependent (tdBN; Zheng et al., AAAI 2021)::

        y = lambda * (alpha * threshold * (x - E[x]) / sqrt(Var[x] + eps)) + beta    lambda = 1, beta = 0 initially

    An ordinary batch norm computes this if its weight starts at ``alpha * threshold``, as in SpikingJelly. Alpha is 1,
    or 1 / sqrt(2) for norms whose outputs are added to a residual, as the blocks declare (see :mod:`.roles`).
    """
    sums = [role for role in declared_roles(network).values() if role.role in ("skip", "projected", "stream")]
    summed = {name for role in sums for name in (role.norm, role.projection)}
    neurons = [module for module in network.modules() if isinstance(module, Neuron)]
    layers = [module for module in network.modules() if isinstance(module, NormNeuron)]
    thresholds = {layer.norm: layer.neuron.threshold for layer in layers}
    for name, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            alpha = math.sqrt(0.5) if name in summed else 1.0
            module.weight.fill_(alpha * thresholds.get(module, neurons[0].threshold))


def build_network(network: Any, neuron: Any, description: Mapping[str, Any]) -> nn.Module:
    """Build a network for a data set.

    Args:
        network: options of a registered network, as ``components.network.make("resnet18", width=16)`` gives them.
        neuron: options of a registered neuron.
        description: ``classes`` (their names), ``channels`` and ``image_size`` of the data. The network takes other
            entries as arguments of the same name, unless it has an option of that name.

    Returns:
        The network with initial weights.

    Raises:
        ValueError: an option is out of range, or the description lacks an argument of the network.

    Example:
        >>> import torch
        >>> from shortcut_snn import components
        >>> network, neuron = components.network.make("resnet8", width=4), components.neuron.make("plif")
        >>> data = {"classes": ["cat", "dog"], "channels": 3, "image_size": [8, 8]}
        >>> build_network(network, neuron, data)(torch.rand(5, 3, 8, 8)).shape
        torch.Size([5, 2])
    """
    reserved = {*network.options, "make_neuron", "self"}
    arguments = {key: value for key, value in description.items() if key not in reserved}
    if "classes" in description:
        arguments["num_classes"] = len(description["classes"])
    if "channels" in description:
        arguments["in_channels"] = int(description["channels"])
    if "image_size" in description:
        arguments["image_size"] = tuple(description["image_size"])
    built: nn.Module = network.build(make_neuron=neuron.build, **arguments)
    return built
