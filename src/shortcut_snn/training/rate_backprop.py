"""A wrapper that trains by rate-based back-propagation, with or without branches."""

from typing import Any

import torch
from torch import Tensor, nn

from ..neurons.rate import RatePasses
from ..method import Shortcut, ShortcutOutput


class RateShortcut(Shortcut):
    """:class:`Shortcut` around a network of ours whose gradients go through firing rates (see :mod:`..neurons.rate`).

    In training mode a call runs the network twice, the first time without a graph; the outputs are those of averages
    over time, which for the readout ``"mean"`` is what the network itself gives, but for rounding. In eval mode, and
    where no gradients are wanted, it is the wrapper it comes from.

    Args:
        network: one of ours.
        taps: see :class:`Shortcut`; a branch sees the same averages.
        options: the other arguments of :class:`Shortcut`.

    Raises:
        ValueError: neurons whose tau is learned.
    """

    def __init__(self, network: nn.Module, taps: Any = "stages", **options: Any) -> None:
        super().__init__(network, taps, **options)
        self._passes = RatePasses(network)

    def forward(self, x: Tensor) -> ShortcutOutput:
        """Map images ``[N, C, H, W]`` or frames ``[T, N, C, H, W]`` to logits."""
        if not (self.training and torch.is_grad_enabled()):
            return super().forward(x)
        with self._passes.spiking():
            self.network(x)
        with self._passes.averages():
            return super().forward(x if x.dim() == 4 else x.mean(0))
