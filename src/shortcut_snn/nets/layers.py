"""Ordinary layers over a sequence ``[T, N, ...]``: time and batch are one batch to them."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..neurons import bits_of, merge_time, pack_spikes, spike_conv2d, spike_max_pool2d, with_bits


def over_time(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply a layer that knows no time to ``[T, N, ...]``."""
    flat, bits = merge_time(x), bits_of(x)
    out = layer(flat if bits is None else with_bits(flat, bits))
    sequence, bits = out.view(*x.shape[:2], *out.shape[1:]), bits_of(out)
    return sequence if bits is None else with_bits(sequence, bits)


def channels_last(network: nn.Module) -> None:
    """Lay a network's convolutions out channels-last; other parameters may have any number of axes."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


class SpikeConv2d(nn.Conv2d):
    """A convolution that keeps its input for the backward pass as bits where that carries them.

    In all else it is the convolution, to the last bit of its gradients.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Map ``[T * N, C, H, W]``."""
        bits = bits_of(input)
        if bits is None or isinstance(self.padding, str) or self.padding_mode != "zeros":
            return super().forward(input)
        weight, bias = self.weight, self.bias
        # To a custom operator autocast does nothing.
        if torch.is_autocast_enabled(input.device.type):
            dtype = torch.get_autocast_dtype(input.device.type)
            input, weight = input.to(dtype), weight.to(dtype)
            bias = None if bias is None else bias.to(dtype)
        sizes = list(self.stride), list(self.padding), list(self.dilation)
        out: Tensor = spike_conv2d(input, bits, weight, bias, *sizes, self.groups)
        return out


class SpikePointwiseConv2d(SpikeConv2d):
    """A 1x1 convolution without bias, strided, that is safe with few channels.

    With fewer than 16 channels, laid out channels-last, the backward pass of oneDNN's strided 1x1 convolution writes
    past its buffer and brings the process down sooner or later (uxlfoundation/oneDNN, issue 6035). There every
    ``stride``-th pixel is taken first, and no stride is needed: the same function.
    """

    _SAFE_CHANNELS = 16

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__(inputs, outputs, 1, stride, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        """Map ``[T * N, C, H, W]`` to ``[T * N, outputs, H / stride, W / stride]``."""
        down, across = self.stride
        if self.in_channels >= self._SAFE_CHANNELS or down == across == 1:
            return super().forward(input)
        # A copy: a view would keep all of the input for the backward pass.
        return F.conv2d(input[..., ::down, ::across].clone(), self.weight)


class SpikeMaxPool2d(nn.MaxPool2d):
    """Max pooling that does the same, and knows its output to be spikes."""

    def forward(self, input: Tensor) -> Tensor:
        """Map ``[T * N, C, H, W]``."""
        bits = bits_of(input)
        if bits is None or self.return_indices:
            pooled: Tensor = super().forward(input)
            return pooled
        sizes = [_pair(size) for size in (self.kernel_size, self.stride, self.padding, self.dilation)]
        pooled = spike_max_pool2d(input, bits, *sizes, self.ceil_mode)
        return with_bits(pooled, pack_spikes(pooled.detach().view(bits.shape[0], -1, *pooled.shape[1:])))


def _pair(size: int | tuple[int, ...]) -> list[int]:
    return [size, size] if isinstance(size, int) else list(size)


def conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """3x3 convolution without bias (a normalisation follows)."""
    return SpikeConv2d(inputs, outputs, 3, stride, 1, bias=False)
