"""Firing rates of the spiking layers of our networks."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..inspection import hooked
from ..introspection.neurons import spiking_layers


@contextmanager
def firing_rates(network: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Measure spikes per neuron and time step in the passes of a block.

    The dictionary is filled, layer by layer, with 0-dimensional tensors of the last pass.

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
    def keep(name: str, module: nn.Module, args: object, output: Tensor) -> None:
        rates[name] = output.detach().mean(dtype=torch.float32)

    with hooked(spiking_layers(network), keep):
        yield rates
