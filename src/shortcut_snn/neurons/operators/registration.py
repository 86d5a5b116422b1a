"""Register custom operators with PyTorch's dispatcher, with less overhead per call than ``torch.library.custom_op``.

``custom_op`` and ``register_autograd`` check arguments against the schema, and results for aliases, at every call. That
takes as long as everything else that Python does for a layer.
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

_LIBRARY: Any = torch.library.Library("shortcut_snn", "DEF")  # type: ignore[no-untyped-call]


def operator(fake: Callable[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    """Register a function as an operator. It must not change its arguments, and must return new tensors.

    ``fake`` returns outputs without data. It takes those of the operator's arguments that it names.
    """
    # Otherwise the compiler would trace the Python code of the operator while compiled code runs.
    not_compiled: Any = torch.compiler.disable

    def register(function: Callable[..., Any]) -> Any:
        name = function.__name__
        arguments = list(inspect.signature(function).parameters)
        read = list(inspect.signature(fake).parameters)

        def from_all(*values: Any) -> Any:
            by_name = dict(zip(arguments, values, strict=True))
            return fake(*[by_name[argument] for argument in read])

        _LIBRARY.define(name + torch.library.infer_schema(function, mutates_args=()), tags=torch.Tag.pt2_compliant_tag)
        for key in ("CPU", "CUDA"):
            _LIBRARY.impl(name, not_compiled(function), key)
        torch.library.register_fake(f"shortcut_snn::{name}", from_all, lib=_LIBRARY)
        registered = getattr(torch.ops.shortcut_snn, name).default
        registered.__doc__ = function.__doc__
        return registered

    return register


def register_backward(registered: Any, setup_context: Callable[..., None], gradients: Callable[..., Any]) -> None:
    """Register the backward pass of an operator.

    ``setup_context(ctx, inputs)`` saves what it needs, from the inputs by name. ``gradients(ctx, saved, needed,
    *grads)`` returns the gradients of inputs by name; ``needed`` has a boolean for each input.
    """
    names = [argument.name for argument in registered._schema.arguments]

    class Differentiated(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Any) -> Any:
            setup_context(ctx, dict(zip(names, inputs, strict=True)))
            return _below_autograd(*inputs)

        @staticmethod
        def backward(ctx: Any, *grads: Tensor | None) -> Any:
            saved, needed = ctx.saved_tensors, dict(zip(names, ctx.needs_input_grad, strict=True))
            with torch.no_grad():
                by_name = gradients(ctx, saved, needed, *grads)
            results = tuple(by_name.get(name) for name in names)
            return first_order(results, *grads, *saved)

    def _below_autograd(*inputs: Any) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            return registered(*inputs)

    def call(*inputs: Any) -> Any:
        if torch.is_grad_enabled() and torch._C._any_requires_grad(*inputs):
            return Differentiated.apply(*inputs)  # type: ignore[no-untyped-call]
        unpack: Any = forward_ad.unpack_dual
        tensors = (value for value in inputs if isinstance(value, Tensor))
        if forward_ad._current_level >= 0 and any(unpack(tensor).tangent is not None for tensor in tensors):
            raise NotImplementedError(
                'the compiled kernels have no forward-mode derivative: compute it within use_backend("eager")'
            )
        return _below_autograd(*inputs)

    _LIBRARY.impl(registered._schema.name.partition("::")[2], call, "Autograd")


def first_order(results: tuple[Tensor | None, ...], *inputs: Tensor | None) -> Any:
    """Return the results of a backward pass, whose derivatives for the inputs of that pass are refused.

    torch's ``once_differentiable`` cuts the graph. A derivative for an input before the cut is 0.
    """
    return _NotTwice.apply(results, *inputs) if torch.is_grad_enabled() else results  # type: ignore[no-untyped-call]


class _NotTwice(torch.autograd.Function):
    """Connects gradients with their inputs, so that a second derivative is refused."""

    @staticmethod
    def forward(ctx: Any, results: tuple[Tensor | None, ...], *inputs: Tensor | None) -> Any:
        return results

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        raise RuntimeError('compiled kernels have no second derivative: compute it within use_backend("eager")')
