"""Layers of a network in plain torch operations, the neuron as the paper writes it."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shortcut_snn.neurons import ATan

from ..neurons.reference import unrolled


def conv(module: nn.Conv2d, x: Tensor, stride: int = 1, padding: int = 1) -> Tensor:
    """Convolution of ``[T, N, C, H, W]`` with the weight of a module."""
    flat = F.conv2d(x.reshape(-1, *x.shape[2:]), module.weight, None, stride, padding)
    return flat.reshape(*x.shape[:2], *flat.shape[1:])


def normalised(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Batch normalisation over time, batch and space with the weight and bias of a module."""
    mean, var = x.mean((0, 1, 3, 4), keepdim=True), x.var((0, 1, 3, 4), correction=0, keepdim=True)
    return (x - mean) / (var + norm.eps).sqrt() * norm.weight[:, None, None] + norm.bias[:, None, None]


def spike(current: Tensor) -> Tensor:
    """LIF neurons with decay 0.5, threshold 1, hard reset and the ATan surrogate."""
    return unrolled(current, 0.5, 1.0, ATan(), "hard", False)[0]


def randomise(module: nn.Module) -> None:
    """Give batch norms weights and biases that are not those of a fresh one."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.weight.data.uniform_(0.5, 2)
            norm.bias.data.uniform_(-0.5, 0.5)


def assert_equal(out: Tensor, expected: Tensor, inputs: Sequence[Tensor]) -> None:
    """Compare an output and its gradients with what plain operations give; no gradient may be 0 everywhere."""
    torch.testing.assert_close(out, expected)
    weight = torch.randn_like(out)
    gradients, references = (torch.autograd.grad((each * weight).sum(), inputs) for each in (out, expected))
    for gradient, reference in zip(gradients, references, strict=True):
        assert gradient.any()
        torch.testing.assert_close(gradient, reference, rtol=1e-6, atol=1e-9)
