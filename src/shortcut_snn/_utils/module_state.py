"""Hooks on modules and changes of their state that last for one block."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from .random_state import preserve_random_state


@contextmanager
def hooked(
    modules: Mapping[str, nn.Module],
    forward: Callable[[str, Any, Any, Any], Any] | None = None,
    pre: Callable[[str, Any, Any], Any] | None = None,
) -> Iterator[None]:
    """Hook modules for a block, also if it raises. The functions get a module's name before what torch passes.

    Inputs that a caller passes by keyword follow the positional ones. ``pre`` returns all inputs, or None.
    """

    def before(function: Any, name: str, module: Any, args: Any, keywords: Any) -> Any:
        if keywords:
            # By position: the functions may call the module, and a parameter between may have been left out.
            bound = inspect.signature(module.forward).bind(*args, **keywords)
            bound.apply_defaults()
            args, keywords = bound.args, bound.kwargs
        changed = function(name, module, (*args, *keywords.values()))
        if changed is None:
            return None
        return changed[: len(args)], dict(zip(keywords, changed[len(args) :], strict=True))

    def after(function: Any, name: str, module: Any, args: Any, keywords: Any, output: Any) -> Any:
        return function(name, module, (*args, *keywords.values()), output)

    with ExitStack() as hooks:
        for name, module in modules.items():
            if pre is not None:
                hooks.enter_context(module.register_forward_pre_hook(partial(before, pre, name), with_kwargs=True))
            if forward is not None:
                hooks.enter_context(module.register_forward_hook(partial(after, forward, name), with_kwargs=True))
        yield


@contextmanager
def restored_on_error(model: nn.Module) -> Iterator[None]:
    """Restore attributes of all modules, and values and flags of parameters, if a block raises or is interrupted."""
    parameters = [(p, p.detach().clone(), p.requires_grad) for p in model.parameters()]
    tables = [vars(module) for module in nn.Module.modules(model)]
    tables += [table[key] for table in tables for key in ("_parameters", "_buffers", "_modules")]
    saved = [(table, dict(table)) for table in tables]
    try:
        yield
    except BaseException:
        for table, entries in saved:
            table.clear()
            table.update(entries)
        with torch.no_grad():
            for parameter, value, requires_grad in parameters:
                parameter.copy_(value).requires_grad_(requires_grad)
        raise


@contextmanager
def preserving_state(model: nn.Module, training: bool = True) -> Iterator[None]:
    """Restore every module's mode, buffers and gradients, and all random states, after a block.

    In the block the parameters have no gradients, and hooks that follow on gradients, such as an optimizer's step in
    the backward pass, do not run. In training mode gradients are enabled, and batch norm uses the batch's statistics.
    """
    # A network may have attributes that hide torch's methods.
    modes = {module: module.training for module in nn.Module.modules(model)}
    buffers = {name: buffer.detach().clone() for name, buffer in nn.Module.named_buffers(model)}
    gradients = {name: parameter.grad for name, parameter in nn.Module.named_parameters(model)}
    hook_tables = [hooks for p in nn.Module.parameters(model) if (hooks := p._post_accumulate_grad_hooks)]
    saved_hooks = [dict(hooks) for hooks in hook_tables]
    try:
        model.train(training)
        for hooks in hook_tables:
            hooks.clear()
        for parameter in nn.Module.parameters(model):
            parameter.grad = None
        with preserve_random_state(), torch.set_grad_enabled(training or torch.is_grad_enabled()):
            yield
    finally:
        for hooks, saved in zip(hook_tables, saved_hooks, strict=True):
            hooks.update(saved)
        for module, mode in modes.items():
            module.training = mode
        for name, parameter in nn.Module.named_parameters(model):
            parameter.grad = gradients[name]
        _restore_buffers(model, buffers)


@torch.no_grad()
def _restore_buffers(model: nn.Module, buffers: Mapping[str, torch.Tensor]) -> None:
    for name, buffer in list(nn.Module.named_buffers(model)):
        saved = buffers.get(name, buffer)
        is_expanded = 0 in buffer.stride() and buffer.numel() > 1
        if buffer.shape == saved.shape and buffer.is_leaf and not is_expanded:
            buffer.copy_(saved)
        else:
            # An expanded buffer, or neuron state that was replaced by a tensor with a graph, or of another batch size.
            owner, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(owner), attribute, saved)
