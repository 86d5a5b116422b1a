"""Looking at a network without changing it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def untouched(model: nn.Module, training: bool = True) -> Iterator[None]:
    """Leave a model's mode, buffers, gradients and torch's random state as they were, whatever the block does.

    In the block the parameters have no gradients.

    Args:
        model: what is looked at.
        training: its mode in the block; with True batch statistics are used, as in a training step.
    """
    modes = {module: module.training for module in model.modules()}
    buffers = {name: buffer.detach().clone() for name, buffer in model.named_buffers()}
    grads = {name: parameter.grad for name, parameter in model.named_parameters()}
    try:
        model.train(training)
        for parameter in model.parameters():
            parameter.grad = None
        with torch.random.fork_rng():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for name, parameter in model.named_parameters():
            parameter.grad = grads[name]
        with torch.no_grad():
            for name, buffer in list(model.named_buffers()):
                before = buffers.get(name, buffer)
                if buffer.shape == before.shape and buffer.is_leaf:
                    buffer.copy_(before)
                else:
                    # A neuron's state, replaced by one with a graph or of another batch's shape.
                    owner, _, own = name.rpartition(".")
                    setattr(model.get_submodule(owner), own, before)
