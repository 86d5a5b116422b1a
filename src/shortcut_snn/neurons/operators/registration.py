"""Operators of ours in PyTorch's dispatcher: whole to its compiler, and cheap to call.

What ``torch.library.custom_op`` and ``register_autograd`` put around each call (the schema read argument by argument,
results looked through for aliases) takes as long as all else that is done in Python for a layer.
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
    """Make an operator of a function of tensors, which changes none of them and returns new ones.

    Args:
        fake: makes what it returns, without data; None where the function itself does.
        keys: what it is for, of the dispatcher's keys.
    """

    # While compiled code runs, the compiler looks at all Python that is called.
    outside: Any = torch.compiler.disable

    def register(function: Callable[..., Any]) -> Any:
        name = function.__name__
        schema = torch.library.infer_schema(function, mutates_args=())
        _LIBRARY.define(name + schema, tags=(torch.Tag.pt2_compliant_tag,))
        for key in keys:
            _LIBRARY.impl(name, outside(function), key)
        torch.library.register_fake(f"shortcut_snn::{name}", fake or function, lib=_LIBRARY)
        made = getattr(torch.ops.shortcut_snn, name).default
        made.__doc__ = function.__doc__
        return made

    return register


def differentiate(made: Any, keep: Callable[..., None], gradients: Callable[..., Any]) -> None:
    """Give an operator its gradients.

    Args:
        made: the operator.
        keep: ``keep(ctx, inputs, output)`` saves what the gradients need.
        gradients: ``gradients(ctx, *grads)`` returns one for each input, or None.
    """

    class Differentiated(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Any) -> Any:
            output = _below(*inputs)
            keep(ctx, inputs, output)
            return output

        @staticmethod
        @once_differentiable
        def backward(ctx: Any, *grads: Tensor | None) -> Any:
            return gradients(ctx, *grads)

    def _below(*inputs: Any) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            return made(*inputs)

    def call(*inputs: Any) -> Any:
        if torch.is_grad_enabled() and torch._C._any_requires_grad(*inputs):
            return Differentiated.apply(*inputs)  # type: ignore[no-untyped-call]
        return _below(*inputs)

    _LIBRARY.impl(made._schema.name.partition("::")[2], call, "Autograd")
