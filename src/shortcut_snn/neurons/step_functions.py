"""The functions that a neuron's step may call besides torch's: a surrogate gradient, and a parameter per channel."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx
from torch.autograd import forward_ad

from .backend import is_exported


class _StraightThrough(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(value: Tensor, v: Tensor, slope: Callable[[Tensor], Tensor]) -> Tensor:
        return value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, v, ctx.slope = inputs
        ctx.save_for_backward(v)
        ctx.save_for_forward(v)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (v,) = ctx.saved_tensors
        return None, grads[0] * ctx.slope(v), None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        (v,) = ctx.saved_tensors
        out: Tensor = tangents[1] * ctx.slope(v)
        return out


def straight_through(value: Tensor, v: Tensor, slope: Callable[[Tensor], Tensor]) -> Tensor:
    """Return ``value``, whose gradient goes to ``v`` with the derivative ``slope(v)``.

    Args:
        value: a function of ``v`` without a useful derivative, such as a spike.
        v: the tensor that receives the gradient, of the shape of ``value``.
        slope: the surrogate derivative of ``value`` with respect to ``v``, elementwise.

    Example:
        >>> x = torch.tensor([0.4, 1.6], requires_grad=True)
        >>> straight_through(x.round(), x, torch.ones_like).sum().backward()
        >>> x.grad
        tensor([1., 1.])
    """
    if isinstance(v, fx.Proxy):
        return v.tracer.create_proxy("call_function", straight_through, (value, v, slope(v)), {})
    if is_exported() or not (torch.is_grad_enabled() or forward_ad._current_level >= 0):
        return value
    out: Tensor = _StraightThrough.apply(value.detach(), v, slope)  # type: ignore[no-untyped-call]
    return out


def per_channel(parameter: Tensor, like: Tensor) -> Tensor:
    """Return a parameter ``[C]`` in a shape that broadcasts with ``[N, C, ...]``.

    Example:
        >>> per_channel(torch.ones(3), torch.ones(2, 3, 4, 4)).shape
        torch.Size([3, 1, 1])
    """
    if isinstance(parameter, fx.Proxy):
        return parameter.tracer.create_proxy("call_function", per_channel, (parameter,), {})
    return parameter.view(-1, *[1] * (like.dim() - 2))
