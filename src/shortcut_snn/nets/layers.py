"""Layers without an axis of time, applied to a sequence ``[T, N, ...]`` with time and batch merged."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..neurons.event_layers import event_convolution, event_linear
from ..neurons.operators.layout import merge_time
from ..neurons.packing import bits_of, pack, saved_as_bits, with_bits, with_bits_of


def over_time(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply a layer to ``[T, N, ...]`` with time and batch merged; spikes keep the bits that they carry."""
    flat = with_bits_of(x, merge_time(x))
    out = layer(flat)
    return with_bits_of(out, out.view(*x.shape[:2], *out.shape[1:]))


class SpikeConv2d(nn.Conv2d):
    """A convolution whose time and memory follow the number of spikes, if its input carries bits.

    Spikes of this library's neurons carry bits. The layer adds the weights of the spikes where that is faster than
    the dense convolution, which multiplies zeros too, and saves the bits for the backward pass. Outputs and gradients
    equal those of ``nn.Conv2d``, to float32 rounding; arguments and parameters are the same.

    Example:
        >>> SpikeConv2d(3, 4, 3)(torch.ones(2, 3, 8, 8)).shape
        torch.Size([2, 4, 6, 6])
    """

    def forward(self, input: Tensor) -> Tensor:
        """Map ``[T * N, C, H, W]`` or ``[T, N, C, H, W]``."""
        if input.dim() == 5:
            # Not by calling the layer, whose hooks would run twice.
            return over_time(self.forward, input)
        out = event_convolution(self, input)
        if out is not None:
            return out
        with saved_as_bits(input):
            return super().forward(input)


class SpikeLinear(nn.Linear):
    """A linear layer whose time and memory follow the number of spikes, if its input carries bits.

    See :class:`SpikeConv2d`; arguments and parameters are those of ``nn.Linear``.

    Example:
        >>> SpikeLinear(3, 4)(torch.ones(2, 5, 3)).shape
        torch.Size([2, 5, 4])
    """

    def forward(self, input: Tensor) -> Tensor:
        """Map ``[T, N, ..., in_features]`` to ``[T, N, ..., out_features]``."""
        out = event_linear(self, input)
        if out is not None:
            return out
        with saved_as_bits(input):
            return super().forward(input)


class SpikePointwiseConv2d(SpikeConv2d):
    """A strided 1x1 convolution without bias that works around a bug of oneDNN with few channels.

    With fewer than 16 channels in channels-last memory, the backward pass of oneDNN's strided 1x1 convolution writes
    past its buffer, which crashes the process sooner or later (uxlfoundation/oneDNN, issue 6035). With few channels
    this layer selects every ``stride``-th pixel first and convolves without a stride, which is the same function.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__(inputs, outputs, 1, stride, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        """Map ``[T * N, C, H, W]`` to ``[T * N, outputs, H / stride, W / stride]``."""
        down, across = self.stride
        if self.in_channels >= 16 or down == across == 1:
            return super().forward(input)
        # A copy: with a view the backward pass would save the whole input.
        return F.conv2d(input[..., ::down, ::across].clone(), self.weight)


class SpikeMaxPool2d(nn.MaxPool2d):
    """Max pooling that saves the bits of its input, and whose output carries bits as well."""

    def forward(self, input: Tensor) -> Tensor:
        """Map ``[T * N, C, H, W]``."""
        bits = bits_of(input)
        if bits is None or self.return_indices:
            pooled: Tensor = super().forward(input)
            return pooled
        options = (self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)
        with saved_as_bits(input):
            pooled = _MaxPool.apply(input, options)  # type: ignore[no-untyped-call]
        return with_bits(pooled, pack(pooled.view(bits.shape[0], -1, *pooled.shape[1:])))


class _MaxPool(torch.autograd.Function):
    """Max pooling that finds the maxima again in the backward pass: torch would save their indices, 64 bits each."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, options: tuple[Any, ...]) -> Tensor:
        ctx.save_for_backward(x)
        ctx.options = options
        pooled: Tensor = F.max_pool2d(x, *options)
        return pooled

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        x, twice = x.detach().requires_grad_(), torch.is_grad_enabled()
        with torch.enable_grad():
            pooled = F.max_pool2d(x, *ctx.options)
        return *torch.autograd.grad(pooled, x, grad, create_graph=twice), None


def conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """Return a 3x3 convolution without bias, for a normalisation to follow."""
    return SpikeConv2d(inputs, outputs, 3, stride, 1, bias=False)
