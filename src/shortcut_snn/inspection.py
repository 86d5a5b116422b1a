"""Looking at a network without leaving a trace in it: hooks that go again, state that is put back."""

import random
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn


@contextmanager
def hooked(
    modules: Mapping[str, nn.Module],
    forward: Callable[[str, Any, Any, Any], Any] | None = None,
    pre: Callable[[str, Any, Any], Any] | None = None,
) -> Iterator[None]:
    """Hook modules in a block, and remove the hooks behind it, whatever the block does.

    Args:
        modules: by any names.
        forward: called with a module's name, the module, its arguments and its output, after its forward pass.
        pre: called with a module's name, the module and its arguments, before its forward pass.

    Example:
        >>> import torch
        >>> net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU())
        >>> shapes = {}
        >>> with hooked(dict(net.named_children()), lambda name, module, args, out: shapes.update({name: out.shape})):
        ...     _ = net(torch.zeros(1, 3))
        >>> sorted(shapes)
        ['0', '1']
    """
    handles = []
    try:
        for name, module in modules.items():
            if pre is not None:
                handles.append(module.register_forward_pre_hook(partial(pre, name)))
            if forward is not None:
                handles.append(module.register_forward_hook(partial(forward, name)))
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def preserving_state(model: nn.Module, training: bool = True) -> Iterator[None]:
    """Leave every module's mode, buffers, gradients and all random states as they were, whatever the block does.

    In the block the parameters have no gradients. In training mode gradients are computed, whatever is so outside, and
    what somebody has follow on them, such as a step of an optimizer, does not.

    Args:
        model: what is looked at.
        training: its mode in the block; with True batch statistics are used, as in a training step.

    Example:
        >>> import torch
        >>> net = torch.nn.Sequential(torch.nn.BatchNorm1d(3).eval(), torch.nn.Dropout())
        >>> with preserving_state(net):
        ...     net(torch.randn(4, 3)).sum().backward()
        >>> net[0].training, net[1].training, int(net[0].num_batches_tracked), net[0].weight.grad
        (False, True, 0, None)
    """
    modes = {module: module.training for module in model.modules()}
    buffers = {name: buffer.detach().clone() for name, buffer in model.named_buffers()}
    grads = {name: parameter.grad for name, parameter in model.named_parameters()}
    # Such as an optimizer's step within the backward pass.
    following = [hooks for parameter in model.parameters() if (hooks := parameter._post_accumulate_grad_hooks)]
    kept = [dict(hooks) for hooks in following]
    numpy = sys.modules.get("numpy")
    states = random.getstate(), None if numpy is None else numpy.random.get_state()
    devices = {parameter.device for parameter in model.parameters() if parameter.device.type == "cuda"}
    try:
        model.train(training)
        for hooks in following:
            hooks.clear()
        for parameter in model.parameters():
            parameter.grad = None
        with (
            torch.random.fork_rng(devices=sorted(devices, key=str)),
            torch.set_grad_enabled(training or torch.is_grad_enabled()),
        ):
            yield
    finally:
        random.setstate(states[0])
        if numpy is not None:
            numpy.random.set_state(states[1])
        for hooks, held in zip(following, kept, strict=True):
            hooks.update(held)
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
