"""Adapters: the conventions of SpikingJelly, snnTorch, Norse and sinabs, one file each."""

from collections.abc import Sequence
from functools import partial

from torch import nn

from ..._utils.calls import Reset
from .adapter import Adapter
from .norse import NORSE
from .sinabs import SINABS
from .snntorch import SNNTORCH
from .spikingjelly import CLOCK_DRIVEN, SPIKINGJELLY

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
    resets = [adapter.reset for adapter in adapters if adapter.reset is not None]
    return partial(_reset_by, resets) if len(resets) > 1 else resets[0] if resets else None


def _reset_by(resets: Sequence[Reset], network: nn.Module) -> None:
    for reset in resets:
        reset(network)
