"""Firing rates of the spiking layers of our networks."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..neurons import Neuron, NormNeuron


def spiking_layers(network: nn.Module) -> dict[str, nn.Module]:
    """Return the layers whose outputs are spikes, in the order of the network.

    A neuron inside a :class:`NormNeuron` is not listed beside it: the two are one layer and may run as one.
    """
    found: dict[str, nn.Module] = {}
    for name, module in network.named_modules():
        inside = any(name == other or name.startswith(f"{other}.") for other in found)
        if isinstance(module, NormNeuron | Neuron) and not inside:
            found[name] = module
    return found


@contextmanager
def firing_rates(network: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Measure spikes per neuron and time step in the passes of a block.

    The dictionary is filled, layer by layer, with 0-dimensional tensors of the last pass.
    """
    rates: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Tensor) -> None:
            with torch.no_grad():
                rates[name] = output.detach().mean(dtype=torch.float32)

        return hook

    handles = [layer.register_forward_hook(keep(name)) for name, layer in spiking_layers(network).items()]
    try:
        yield rates
    finally:
        for handle in handles:
            handle.remove()
