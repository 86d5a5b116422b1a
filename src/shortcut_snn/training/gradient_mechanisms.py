"""How gradients pass through time: what wraps a network for training, ``(network, taps, **options) -> Shortcut``.

Any callable of this kind is a mechanism. What it cannot be joined with it says as attributes, see :class:`BPTT`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from .. import components
from ..method import Objective, Shortcut, ShortcutOutput, takes_every_step
from ..neurons import Neuron, RatePasses

Taps = str | Sequence[str]


class Gradient(Protocol):
    """A way for the gradient."""

    def __call__(self, network: nn.Module, taps: Taps, /, **options: Any) -> Shortcut:
        """Wrap a network; the arguments are those of :class:`~shortcut_snn.Shortcut`."""


@components.gradient("bptt")
@dataclass(frozen=True)
class BPTT:
    """Back-propagation through time: the network's own gradient.

    Example:
        >>> from shortcut_snn import nets
        >>> type(BPTT()(nets.spiking_resnet8(10, 2, width=4), "stages", num_classes=10)).__name__
        'Shortcut'
    """

    every_step: ClassVar[bool] = True
    """Whether objectives can have the logits of every time step."""
    calibrates: ClassVar[bool] = True
    """Whether gradients pass through time by the surrogates' widths, so that calibrating these means something."""

    def __call__(self, network: nn.Module, taps: Taps = "stages", **options: Any) -> Shortcut:
        """Wrap a network."""
        return Shortcut(network, taps, **options)


@components.gradient("sltt")
@dataclass(frozen=True)
class SLTT:
    """Spatial learning through time: no gradient from one time step to the one before (see :class:`~..neurons.Neuron`).

    Example:
        >>> from shortcut_snn import nets
        >>> network = nets.spiking_resnet8(10, 2, width=4)
        >>> _ = SLTT()(network, "stages", num_classes=10)
        >>> all(module.detach_membrane for module in network.modules() if isinstance(module, Neuron))
        True
    """

    every_step: ClassVar[bool] = True
    calibrates: ClassVar[bool] = True

    def __call__(self, network: nn.Module, taps: Taps = "stages", **options: Any) -> Shortcut:
        """Wrap a network, whose neurons keep no gradient of their membrane from here on.

        Raises:
            ValueError: it has no neurons of ours.
        """
        neurons = [module for module in network.modules() if isinstance(module, Neuron)]
        if not neurons:
            raise ValueError(
                f"gradient sltt works on neurons of shortcut_snn, of which {type(network).__name__} has none: use bptt"
            )
        for neuron in neurons:
            neuron.detach_membrane = True
        return Shortcut(network, taps, **options)


@components.gradient("rate")
@dataclass(frozen=True)
class Rate:
    """Rate-based back-propagation: spikes forward, gradients through averages (see :mod:`..neurons.rate`).

    Example:
        >>> from shortcut_snn import nets
        >>> type(Rate()(nets.spiking_resnet8(10, 2, width=4), "stages", num_classes=10)).__name__
        'RateShortcut'
    """

    every_step: ClassVar[bool] = False
    calibrates: ClassVar[bool] = False

    def __call__(self, network: nn.Module, taps: Taps = "stages", **options: Any) -> Shortcut:
        """Wrap a network.

        Raises:
            ValueError: neurons for which there is no such gradient.
        """
        return RateShortcut(network, taps, **options)


components.gradient.type = Gradient


def check_gradient(gradient: Gradient, objective: Objective, calibrate: bool = False) -> None:
    """Refuse what does not go together.

    Args:
        gradient: the mechanism.
        objective: of the run.
        calibrate: whether its surrogates are to be calibrated first.

    Raises:
        ValueError: naming what to do.

    Example:
        >>> from shortcut_snn import TET
        >>> check_gradient(Rate(), TET())
        Traceback (most recent call last):
        ValueError: gradient rate has no logits of single time steps, which tet needs: use bptt or sltt
    """
    if takes_every_step(objective) and not getattr(_mechanism(gradient), "every_step", True):
        raise ValueError(
            f"gradient {_name(gradient)} has no logits of single time steps, which {_name(objective)} needs: use bptt "
            "or sltt"
        )
    if calibrate and not calibrates(gradient):
        raise ValueError(
            f"calibrate needs gradients through time, which gradient {_name(gradient)} has not: set it to false, or "
            "use bptt or sltt"
        )


def calibrates(gradient: Gradient) -> bool:
    """Say whether gradients pass through time by the surrogates' widths, so that calibrating these means something.

    Example:
        >>> calibrates(BPTT()), calibrates(Rate())
        (True, False)
    """
    return bool(getattr(_mechanism(gradient), "calibrates", True))


def _mechanism(gradient: Any) -> Any:
    return gradient.component.factory if isinstance(gradient, components.Config) else gradient


def _name(component: Any) -> str:
    try:
        return components.component_of(component).name
    except ValueError:
        return type(component).__name__


class RateShortcut(Shortcut):
    """Trains a network with gradients through its firing rates (see :mod:`..neurons.rate`), with branches or without.

    In training mode a call runs the network twice and returns the second pass, on the input averaged
    over time, which for the readout ``"mean"`` is what the network itself gives, but for rounding. In eval mode, and
    where no gradients are wanted, it is the wrapper it comes from.

    Args:
        network: one of ours.
        taps: see :class:`~shortcut_snn.Shortcut`; a branch sees the same averages.
        options: the other arguments of :class:`~shortcut_snn.Shortcut`.

    Raises:
        ValueError: neurons whose tau is learned.

    Example:
        >>> from shortcut_snn import nets
        >>> model = RateShortcut(nets.spiking_resnet8(10, 2, width=4), [], num_classes=10)
        >>> model(torch.rand(2, 3, 8, 8)).main.shape
        torch.Size([2, 10])
    """

    def __init__(self, network: nn.Module, taps: Taps = "stages", **options: Any) -> None:
        super().__init__(network, taps, **options)
        self._passes = RatePasses(network)

    def forward(self, x: Tensor) -> ShortcutOutput:
        """Map images ``[N, C, H, W]`` or frames ``[T, N, C, H, W]`` to logits, or what else the network takes."""
        if not (self.training and torch.is_grad_enabled()):
            return super().forward(x)
        found = self.layout
        axis = found.time_axis if found is not None else None if x.dim() == 4 else 0
        with self._passes.spiking():
            self.network(x)
        with self._passes.averages():
            return super().forward(x if axis is None else x.mean(axis, keepdim=True))
