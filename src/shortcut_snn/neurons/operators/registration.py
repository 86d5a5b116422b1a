"""Register custom operators with PyTorch's dispatcher, with less overhead per call than ``torch.library.custom_op``.

``custom_op`` and ``register_autograd`` check arguments against the schema, and results for aliases, at every call. That
takes as long as everything else that Python does for a layer.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_LIBRARY: Any = torch.library.Library("shortcut_snn", "DEF")  # type: ignore[no-untyped-call]
DEVICES = ("CPU", "CUDA")
ANY_DEVICE = ("CompositeExplicitAutograd",)


def operator(
    fake: Callable[..., Any] | None = None, keys: tuple[str, ...] = ANY_DEVICE
) -> Callable[[Callable[..., Any]], Any]:
    """Register a function as an operator. It must not change its arguments, and must return new tensors.

    Args:
        fake: returns outputs without data (meta tensors); None if the function itself does for such inputs.
        keys: dispatch keys of the devices that it runs on.
    """
    # Otherwise the compiler would trace the Python code of the operator while compiled code runs.
    not_compiled: Any = torch.compiler.disable

    def register(function: Callable[..., Any]) -> Any:
        name = function.__name__
        schema = torch.library.infer_schema(function, mutates_args=())
        _LIBRARY.define(name + schema, tags=(torch.Tag.pt2_compliant_tag,))
        for key in keys:
            _LIBRARY.impl(name, not_compiled(function), key)
        torch.library.register_fake(f"shortcut_snn::{name}", fake or function, lib=_LIBRARY)
        registered = getattr(torch.ops.shortcut_snn, name).default
        registered.__doc__ = function.__doc__
        return registered

    return register


def register_backward(registered: Any, setup_context: Callable[..., None], gradients: Callable[..., Any]) -> None:
    """Register the backward pass of an operator.

    Args:
        registered: the operator.
        setup_context: ``setup_context(ctx, inputs, output)`` saves what the backward pass needs.
        gradients: ``gradients(ctx, *grads)`` returns a gradient or None for each input.
    """

    class Differentiated(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Any) -> Any:
            output = _below_autograd(*inputs)
            setup_context(ctx, inputs, output)
            return output

        @staticmethod
        @once_differentiable
        def backward(ctx: Any, *grads: Tensor | None) -> Any:
            return gradients(ctx, *grads)

    def _below_autograd(*inputs: Any) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            return registered(*inputs)

    def call(*inputs: Any) -> Any:
        if torch.is_grad_enabled() and torch._C._any_requires_grad(*inputs):
            return Differentiated.apply(*inputs)  # type: ignore[no-untyped-call]
        return _below_autograd(*inputs)

    _LIBRARY.impl(registered._schema.name.partition("::")[2], call, "Autograd")
