"""Convolutions and linear layers over spikes whose cost follows the number of spikes.

A dense convolution multiplies every zero. The kernels here read the bits that spikes carry (see :mod:`.packing`) and
add the weights of the spikes alone; the gradient of the weights adds the output gradient where spikes are. The gradient
of the input is computed where the neuron before needs it: in the support of its surrogate [1]. Elsewhere it is 0. The
results, and all other gradients, equal the dense ones to float32 rounding.

At high firing rates the dense convolution is faster. The choice is a function of the layer's shape and its firing rate
alone, with measured break-even rates. It is not timed on the user's machine: a resumed run must take the same kernels,
since their rounding differs.

[1] Perez-Nieves and Goodman, Sparse Spiking Gradient Descent, NeurIPS 2021, arXiv:2105.08810.
"""

import csv
from functools import cache
from math import inf
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .backend import get_backend
from .operators.registration import first_order
from .packing import SavedBits, bits_of, count_bits, find_holders, support_of


@cache
def break_even_rates() -> dict[int, dict[int, tuple[float, ...]]]:
    """Return the break-even rates by kernel size, 3 for all above 1, and by the least of inputs and outputs.

    They are firing rates for the forward pass and the weight gradient, and the share of neurons in the support for the
    input gradient. ``python -m research.studies.event_convolution --break-even`` writes them; these are of AVX-512. The
    dense weight gradient also has to turn the bits into numbers.
    """
    table: dict[int, dict[int, tuple[float, ...]]] = {}
    with Path(__file__).with_name("break_even.csv").open(encoding="utf-8") as file:
        for kernel, width, *rates in list(csv.reader(file))[1:]:
            table.setdefault(int(kernel), {})[int(width)] = tuple(map(float, rates))
    return table


def event_convolution(layer: nn.Conv2d, spikes: Tensor) -> Tensor | None:
    """Return the convolution of spikes ``[T * N, C, H, W]``, or None if only the dense one applies.

    The kernels take float32 spikes that carry bits, in channels-last memory on a CPU. Channels are multiples of 16, and
    kernels are square with an odd size and padding to ``ceil(size / stride)``, without dilation or groups.
    """
    if bits_of(spikes) is None:
        return None
    kernel, stride = layer.kernel_size[0], layer.stride[0]
    fits = (
        layer.kernel_size == (kernel, kernel)
        and layer.stride == (stride, stride)
        and kernel % 2 == 1
        and layer.dilation == (1, 1)
        and layer.groups == 1
        and layer.padding_mode == "zeros"
        and (layer.padding == (kernel // 2, kernel // 2) or (layer.padding == "same" and stride == 1))
        and spikes.dim() == 4
        and spikes.is_contiguous(memory_format=torch.channels_last)
    )
    return _convolved(spikes, layer.weight, layer.bias, stride) if fits else None


def event_linear(layer: nn.Linear, spikes: Tensor) -> Tensor | None:
    """Return the linear map of spikes ``[..., C]``, or None if only the dense one applies."""
    if bits_of(spikes) is None or spikes.shape[-1:] != (layer.in_features,) or not spikes.is_contiguous():
        return None
    weight = layer.weight[..., None, None]
    out = _convolved(spikes, weight, layer.bias, 1, (spikes.numel() // layer.in_features, layer.in_features, 1, 1))
    return None if out is None else out.view(*spikes.shape[:-1], layer.out_features)


def _convolved(
    spikes: Tensor, weight: Tensor, bias: Tensor | None, stride: int, shape: tuple[int, ...] | None = None
) -> Tensor | None:
    bits = bits_of(spikes)
    outputs, channels, kernel, _ = weight.shape
    if (
        type(bits) is not Tensor
        or get_backend() not in ("auto", "numba")
        or any(t.device.type != "cpu" or t.dtype != torch.float32 for t in (spikes, weight, bias) if t is not None)
        or (bias is not None and bias.shape != (outputs,))
        or torch.is_autocast_enabled("cpu")
    ):
        return None
    shape = shape or tuple(spikes.shape)
    if channels % 16 or outputs % 16 or shape[1] != channels or shape[0] % bits.shape[0]:
        return None
    # Offsets in the weights are int32.
    if 4 * outputs * channels * kernel * (kernel + shape[3]) >= 2**31:
        return None
    table = break_even_rates()[3 if kernel > 1 else 1]
    width = max(width for width in table if width <= max(16, min(channels, outputs)))
    support = support_of(spikes)
    rate, needed = (inf if b is None else count_bits(b) / spikes.numel() for b in (bits, support))
    by_events = tuple(r <= break_even for r, break_even in zip((rate, rate, needed), table[width], strict=True))
    if not any(by_events):
        return None
    has_graph = torch.is_grad_enabled() and spikes.requires_grad
    graph = _Empty.apply(spikes) if has_graph else None  # type: ignore[no-untyped-call]
    out: Tensor = _EventConvolution.apply(  # type: ignore[no-untyped-call]
        spikes, weight, bias, bits, support if by_events[2] else None, graph, find_holders(spikes), shape, stride,
        by_events[0], by_events[1],
    )  # fmt: skip
    return out


class _Empty(torch.autograd.Function):
    """An empty tensor that depends on the spikes: saving it saves their graph without their numbers."""

    @staticmethod
    def forward(ctx: Any, spikes: Tensor) -> Tensor:
        ctx.set_materialize_grads(False)
        return spikes.new_empty(0)

    @staticmethod
    def backward(ctx: Any, grad: None) -> None:
        return None


class _EventConvolution(torch.autograd.Function):
    """A convolution of spikes.

    The booleans say whether the forward pass and the weight gradient use the kernels. With a support, the gradient of
    the input does, unless a holder of the spikes still lives: someone may then ask for the whole gradient.
    """

    @staticmethod
    def forward(
        ctx: Any, spikes: Tensor, weight: Tensor, bias: Tensor | None, bits: Tensor, support: Tensor | None,
        graph: Tensor | None, holders: tuple[Any, ...], shape: tuple[int, ...], stride: int, by_events: bool,
        weight_by_events: bool,
    ) -> Tensor:  # fmt: skip
        from .cpu.event_launch import forward

        ctx.save_for_backward(bits, weight, support, graph)
        ctx.holders, ctx.shape, ctx.like, ctx.stride, ctx.weight_by_events = (
            holders, shape, spikes.shape, stride, weight_by_events
        )  # fmt: skip
        if by_events:
            return forward(bits, shape, weight, bias, stride)
        out: Tensor = nn.functional.conv2d(spikes.view(shape), weight, bias, stride, weight.shape[-1] // 2)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        from .cpu.event_launch import input_grad, weight_grad

        bits, weight, support, graph = ctx.saved_tensors
        if any(holder() is not None or hooks for holder, hooks in ctx.holders):
            support = None
        need_input, need_weight, need_bias = ctx.needs_input_grad[:3]
        grad_input = grad_weight = None
        with torch.no_grad():
            grads, weights = grad.contiguous(memory_format=torch.channels_last), weight.detach()
            if need_weight and ctx.weight_by_events:
                grad_weight = weight_grad(bits, ctx.shape, grads, weights, ctx.stride)
            if need_input and support is not None:
                grad_input = input_grad(support, ctx.shape, grads, weights, ctx.stride)
            dense_input, dense_weight = need_input and grad_input is None, need_weight and grad_weight is None
            if dense_input or dense_weight:
                spikes = _channels_last(ctx.shape, bits if dense_weight else None, grads)
                of_input, of_weight, _ = torch.ops.aten.convolution_backward(
                    grads, spikes, weights, None, [ctx.stride] * 2, [weight.shape[-1] // 2] * 2, [1, 1], False, [0, 0],
                    1, [dense_input, dense_weight, False],
                )  # fmt: skip
                grad_input = of_input if dense_input else grad_input
                grad_weight = of_weight if dense_weight else grad_weight
            grad_input = grad_input if grad_input is None else grad_input.view(ctx.like)
            results = grad_input, grad_weight, grads.sum((0, 2, 3)) if need_bias else None
        return *first_order(results, grad, weight, graph), *[None] * 8


def _channels_last(shape: tuple[int, ...], bits: Tensor | None, like: Tensor) -> Tensor:
    """Return spikes as numbers; without bits, memory that is not initialised, since only its shape is used."""
    n, channels, height, width = shape
    if bits is None:
        return like.new_empty(n, height, width, channels).permute(0, 3, 1, 2)
    stride = (height * width * channels, 1, width * channels, channels)
    elements = n // bits.shape[0] * height * width * channels
    return SavedBits(bits, elements, torch.float32, (shape, stride, 0)).unpack()
