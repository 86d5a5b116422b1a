"""Firing rates of the spiking layers of a network."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..introspection import spiking_layers
from ..module_state import hooked


@contextmanager
def firing_rates(network: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Record the firing rate of every spiking layer in the passes inside the block.

    The dictionary maps the name of a layer to a 0-dimensional tensor: spikes per neuron and time step in the latest
    pass. Layers enter it when they are called.

    Example:
        >>> import torch
        >>> from shortcut_snn.neurons import LIF
        >>> network = torch.nn.Sequential(LIF())
        >>> with firing_rates(network) as rates:
        ...     spikes = network(torch.full((2, 1, 4), 1.5))  # [T, N, ...]
        >>> rates
        {'0': tensor(1.)}
    """
    rates: dict[str, Tensor] = {}

    @torch.no_grad()
    def record(name: str, module: nn.Module, args: object, output: Tensor) -> None:
        rates[name] = output.detach().mean(dtype=torch.float32)

    with hooked(spiking_layers(network), record):
        yield rates
