"""Convolutions of spikes in 8-bit whole numbers, whose sums are exact."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..inspection import hooked
from ..neurons import CurrentNeuron, is_exported
from .step import neurons_of

LARGEST = 127
"""Of a weight; -128 stays unused, so that weights are symmetric about 0."""
SPAN, STEPS = 4, 126
"""A current spans so many thresholds up and down, in so many steps: none lies on the threshold itself."""


class Int8Conv2d(nn.Module):
    """A convolution of whole numbers from 0 to 255: weights int8, a scale for each output channel, sums in int32.

    The current that it gives is rounded to 8 bits as well.

    Args:
        conv: what it is made of.
        threshold: of the neurons, to which the steps of the current go by.
        span: how many thresholds up and down are told apart.

    Example:
        >>> import torch
        >>> conv, spikes = nn.Conv2d(8, 4, 3), (torch.rand(2, 8, 9, 9) < 0.2).float()
        >>> bool((Int8Conv2d(conv, 1.0)(spikes) - conv(spikes)).abs().max() < 0.05)
        True
    """

    weight: Tensor
    bias: Tensor
    scale: Tensor

    def __init__(self, conv: nn.Conv2d, threshold: float, span: int = SPAN) -> None:
        super().__init__()
        weight = conv.weight.detach()
        bias = torch.zeros(len(weight)) if conv.bias is None else conv.bias.detach()
        # A channel may have next to no weights, and its bias has to fit into 32 bits too.
        least = (bias.abs() / 2**30).clamp_min(torch.finfo(weight.dtype).tiny)
        scale = torch.maximum(weight.abs().amax((1, 2, 3)) / LARGEST, least)
        self.register_buffer("weight", (weight / scale.view(-1, 1, 1, 1)).round().to(torch.int8))
        self.register_buffer("bias", (bias / scale).round().to(torch.int32))
        self.register_buffer("scale", scale)
        self.step = threshold / (STEPS / span)
        self.sizes: dict[str, Any] = {name: getattr(conv, name) for name in ("stride", "padding", "dilation", "groups")}

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[T * N, C, H, W]``, floats that are whole numbers, to currents."""
        if is_exported():
            return self._as_operators(x)
        # Sums of whole numbers below 2 ** 24 are exact in float32 too.
        current = F.conv2d(x, self.weight.float(), self.bias.float(), **self.sizes)
        steps = current * (self.scale / self.step).view(-1, 1, 1)
        return steps.round().clamp(-128, 127) * self.step

    def _as_operators(self, x: Tensor) -> Tensor:
        """Do the same in QuantizeLinear and DequantizeLinear around a Conv, which runtimes make one operator of."""
        import torch.ao.quantization.fx._decomposed  # registers the operators

        whole, byte = torch.ops.quantized_decomposed, (0, 255, torch.uint8)
        x = whole.dequantize_per_tensor(whole.quantize_per_tensor(x, 1.0, 0, *byte), 1.0, 0, *byte)
        weight = whole.dequantize_per_channel(self.weight, self.scale, None, 0, -128, 127, torch.int8)
        bias = whole.dequantize_per_channel(self.bias, self.scale, None, 0, -(2**31), 2**31 - 1, torch.int32)
        current = whole.quantize_per_tensor(F.conv2d(x, weight, bias, **self.sizes), self.step, 128, *byte)
        rounded: Tensor = whole.dequantize_per_tensor(current, self.step, 128, *byte)
        return rounded


@torch.no_grad()
def to_int8(network: nn.Module, example: Tensor) -> nn.Module:
    """Return a copy whose convolutions of spikes, or of other whole numbers, are :class:`Int8Conv2d`.

    The first convolution, which takes images, stays in float32, and so do linear layers, which take means.

    Args:
        network: from :func:`~shortcut_snn.deploy.folding.fold`.
        example: a batch as the network takes it, real, so that it spikes.

    Raises:
        ValueError: no convolution takes spikes.
    """
    made, taken, spans = copy.deepcopy(network), dict[str, bool](), dict[str, tuple[float, int]]()
    span = (1.0, SPAN)

    def note(path: str, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        nonlocal span
        if isinstance(module, CurrentNeuron):
            # One that gives several spikes at once tells as many thresholds apart.
            span = float(module.neuron.threshold), max(SPAN, getattr(module.neuron, "most", 1))
            # Of all that has been computed since the last neurons.
            spans.update((path, span) for path in taken if path not in spans)
            return
        x = args[0]
        taken[path] = taken.get(path, True) and bool(((x == x.round()) & (x >= 0) & (x <= 255)).all())

    convolutions = {path: module for path, module in made.named_modules() if isinstance(module, nn.Conv2d)}
    with hooked({**convolutions, **neurons_of(made)}, pre=note):
        made(example)
    whole = [path for path in list(taken)[1:] if taken[path] and convolutions[path].padding_mode == "zeros"]
    if not whole:
        raise ValueError("int8: no convolution of this network takes spikes; leave it out")
    for path in whole:
        owner, _, name = path.rpartition(".")
        setattr(made.get_submodule(owner), name, Int8Conv2d(convolutions[path], *spans.get(path, span)))
    return made
