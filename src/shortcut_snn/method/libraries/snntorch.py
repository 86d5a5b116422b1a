"""snnTorch (1.0.0): neurons are called once per time step and keep their last membrane potential as a buffer."""

import torch
from torch import Tensor, nn

from .library import Library, is_from


def is_neuron(module: nn.Module) -> bool:
    """Whether a module is one of its neurons."""
    return is_from(module, "snntorch._neurons")


def is_stepwise(module: nn.Module) -> bool:
    """Whether a neuron has a state from step to step (LeakyParallel and its like take whole sequences)."""
    return hasattr(module, "reset_mem")


def reset(network: nn.Module) -> None:
    """Reset this network's neurons alone: ``snntorch.utils.reset`` goes through those of all networks there are.

    The buffers become empty, as in a new neuron. ``reset_mem`` leaves zeros in the shape of the last batch, which
    DistributedDataParallel would broadcast to, and an average of models copy from, networks that saw another shape.
    """
    for neuron in network.modules():
        if not (is_neuron(neuron) and is_stepwise(neuron)):
            continue
        neuron.reset_mem()  # type: ignore[operator]
        lasting = neuron.state_dict().keys()
        for name, state in neuron.named_buffers(recurse=False):
            if name not in lasting and isinstance(state, Tensor):
                setattr(neuron, name, torch.zeros(0, dtype=state.dtype, device=state.device))


SNNTORCH = Library("snnTorch", is_neuron, is_stepwise, reset, time_axis=None)
