"""Adapters: the conventions of SpikingJelly, snnTorch, Norse and sinabs, one file each."""

from dataclasses import dataclass

from torch import nn

from ..._utils.calls import Reset
from .adapter import Adapter
from .norse import NORSE
from .sinabs import SINABS
from .snntorch import SNNTORCH
from .spikingjelly import CLOCK_DRIVEN, SPIKINGJELLY
from .steepness import steepness

__all__ = [
    "ADAPTERS",
    "CLOCK_DRIVEN",
    "NORSE",
    "SINABS",
    "SNNTORCH",
    "SPIKINGJELLY",
    "Adapter",
    "adapters_of",
    "library_reset",
    "steepness",
]

ADAPTERS = (SPIKINGJELLY, CLOCK_DRIVEN, SNNTORCH, NORSE, SINABS)


def adapters_of(network: nn.Module) -> list[Adapter]:
    """Return the adapters of the libraries whose neurons a network has.

    Example:
        >>> adapters_of(nn.Sequential(nn.Linear(2, 2)))
        []
    """
    return [adapter for adapter in ADAPTERS if adapter.neurons(network)]


def library_reset(adapters: list[Adapter]) -> Reset | None:
    """Return a function that resets the neurons of these libraries; None if none of them needs one.

    Example:
        >>> library_reset([]) is None
        True
    """
    resets = tuple(adapter.reset for adapter in adapters if adapter.reset is not None)
    if len(resets) < 2:
        return resets[0] if resets else None
    return Resets(resets)


@dataclass(frozen=True)
class Resets:
    """Call several resets in turn.

    Args:
        resets: the resets.
    """

    resets: tuple[Reset, ...]

    def __call__(self, network: nn.Module) -> None:
        """Reset the network."""
        for reset in self.resets:
            reset(network)
