"""sinabs 3.1.

Neurons take ``[N, T, ...]``, or ``[N * T, ...]`` in their ``Squeeze`` variants, and keep their state until reset.
``ExpLeak`` integrates and does not spike. Outputs are read at the last time step, or as sum or maximum over time.
"""

import torch
from torch import nn

from .adapter import Adapter, is_from


def _is_stateful(module: nn.Module) -> bool:
    return is_from(module, "sinabs.layers.stateful_layer")


def _reset(network: nn.Module) -> None:
    for module in nn.Module.modules(network):
        if _is_stateful(module):
            # Empty buffers, as in a new neuron. The library's reset overwrites what the backward pass still needs.
            for name, state in list(module.named_buffers(recurse=False)):
                setattr(module, name, torch.zeros(0, dtype=state.dtype, device=state.device))


SINABS = Adapter(
    "sinabs",
    "sinabs",
    is_neuron=lambda module: _is_stateful(module) and not type(module).__name__.startswith("ExpLeak"),
    is_single_step=lambda neuron: False,
    reset=_reset,
    averages_currents=False,
)
