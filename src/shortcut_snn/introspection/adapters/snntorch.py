"""snnTorch 1.0.0.

Neurons compute one time step per call and keep their last membrane potential as a buffer. ``LeakyParallel`` and the
like take whole sequences ``[T, N, ...]`` and have no ``reset_mem``.
"""

import torch
from torch import Tensor, nn

from .adapter import Adapter, is_from


def _is_neuron(module: nn.Module) -> bool:
    return is_from(module, "snntorch._neurons")


def _reset(network: nn.Module) -> None:
    """Reset the neurons of this network alone; ``snntorch.utils.reset`` resets those of all networks.

    The buffers become empty, as in a new neuron. ``reset_mem`` leaves zeros in the shape of the last batch, which
    DistributedDataParallel would broadcast and an averaged model copy, between networks of other batch sizes.
    """
    for neuron in nn.Module.modules(network):
        if not (_is_neuron(neuron) and hasattr(neuron, "reset_mem")):
            continue
        neuron.reset_mem()  # type: ignore[operator]
        persistent = neuron.state_dict().keys()
        for name, state in neuron.named_buffers(recurse=False):
            if name not in persistent and isinstance(state, Tensor):
                setattr(neuron, name, torch.zeros(0, dtype=state.dtype, device=state.device))


SNNTORCH = Adapter(
    "snnTorch",
    "snntorch",
    is_neuron=_is_neuron,
    is_single_step=lambda neuron: hasattr(neuron, "reset_mem"),
    reset=_reset,
)
