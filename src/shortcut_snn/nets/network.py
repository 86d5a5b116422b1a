"""What our networks share: how an input enters, how classes leave."""

from typing import Literal, get_args

import torch
from torch import Tensor, nn

Readout = Literal["mean", "sequence"]


class SpikingNetwork(nn.Module):
    """Base: features of every time step, then a linear readout.

    A subclass sets ``stage_names``, computes :meth:`features` and ends with ``classifier``, its last submodule.

    Args:
        num_classes: width of the logits.
        time_steps: T.
        in_channels: 3 for colour, 1 for grey, 2 for event frames (polarities).
        readout: ``"mean"`` averages over time before the linear layer and gives ``[N, num_classes]``;
            ``"sequence"`` gives the logits of every step, ``[T, N, num_classes]``.

    Raises:
        ValueError: a size that is not positive, an unknown readout.
    """

    stage_names: list[str]
    classifier: nn.Linear

    def __init__(self, num_classes: int, time_steps: int, in_channels: int, readout: Readout) -> None:
        super().__init__()
        check_sizes(num_classes=num_classes, time_steps=time_steps, in_channels=in_channels)
        if readout not in get_args(Readout):
            raise ValueError(f"readout must be one of {', '.join(get_args(Readout))}, got {readout!r}")
        self.num_classes, self.time_steps, self.in_channels = num_classes, time_steps, in_channels
        self.readout = readout

    def features(self, x: Tensor) -> Tensor:
        """Map images ``[1, N, C, H, W]`` or frames ``[T, N, C, H, W]`` to averaged spikes ``[T, N, F]``."""
        raise NotImplementedError

    def example_input(self) -> Tensor:
        """Return a batch of two small blank images, on the network's device, for a dry pass."""
        weight = self.classifier.weight
        return torch.zeros(2, self.in_channels, 32, 32, device=weight.device, dtype=weight.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``[N, num_classes]`` (``[T, N, num_classes]`` with readout ``"sequence"``).

        Args:
            x: static images ``[N, C, H, W]``, a constant current at every time step, or frames
                ``[T, N, C, H, W]``.

        Raises:
            ValueError: another number of axes, channels or time steps than the network was built for.
        """
        features = self.features(self._sequence(x))
        if self.readout == "mean":
            features = features.mean(0)
        logits: Tensor = self.classifier(features)
        return logits

    def _sequence(self, x: Tensor) -> Tensor:
        if not isinstance(x, Tensor):
            raise TypeError(f"the network takes a tensor, got {type(x).__name__}")
        if x.dim() not in (4, 5):
            raise ValueError(f"expected images [N, C, H, W] or frames [T, N, C, H, W], got shape {tuple(x.shape)}")
        if x.shape[-3] != self.in_channels:
            raise ValueError(f"the network takes {self.in_channels} channels, got {x.shape[-3]} in {tuple(x.shape)}")
        if 0 in x.shape[-2:]:
            raise ValueError(f"images need at least 1 pixel a side, got {tuple(x.shape)}")
        self._check_kind(x)
        if x.dim() == 4:
            return x.unsqueeze(0)
        if x.shape[0] != self.time_steps:
            raise ValueError(
                f"the network runs {self.time_steps} time steps, got {x.shape[0]} frames in {tuple(x.shape)}"
            )
        return x

    def _check_kind(self, x: Tensor) -> None:
        # The first layer's: a network that is only used may keep its last one in another precision.
        layers = (module for module in self.modules() if isinstance(module, nn.Conv2d | nn.Linear))
        weight = next(layers, self.classifier).weight
        if x.device != weight.device:
            raise ValueError(f"the input is on {x.device} and the network on {weight.device}")
        if not x.is_floating_point():
            raise ValueError(f"the network takes normalised floating-point images, got {x.dtype}")
        if x.dtype != weight.dtype and not torch.is_autocast_enabled(x.device.type):
            raise ValueError(f"the input is {x.dtype} and the network {weight.dtype}")

    def _initialise(self) -> None:
        """Draw the convolutions' weights."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def check_sizes(**sizes: int) -> None:
    """Refuse sizes below 1.

    Raises:
        TypeError: naming the size.
        ValueError: naming the size.
    """
    for name, size in sizes.items():
        if not isinstance(size, int):
            raise TypeError(f"{name} must be a whole number, got {size!r}")
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}")
