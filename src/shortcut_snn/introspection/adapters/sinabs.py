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


def _advice(network: nn.Module) -> str:
    modules = list(nn.Module.modules(network))
    if not any(_is_stateful(module) and hasattr(module, "batch_size") for module in modules):
        return ""
    return (
        "sinabs' Squeeze layers take samples and time steps in one axis: pass example=... as [N, T, ...], and a module "
        "that folds it:\n"
        "    class Folded(torch.nn.Module):\n"
        "        def __init__(self, net): super().__init__(); self.net = net\n"
        "        def forward(self, x): return self.net(x.flatten(0, 1)).unflatten(0, x.shape[:2])"
    )


SINABS = Adapter(
    "sinabs",
    "sinabs",
    is_neuron=lambda module: _is_stateful(module) and not type(module).__name__.startswith("ExpLeak"),
    is_single_step=lambda neuron: False,
    reset=_reset,
    advice=_advice,
)
