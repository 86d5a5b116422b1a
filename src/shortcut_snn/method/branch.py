"""A shortcut branch: mean over time and space, then one fully connected layer (paper, method)."""

from typing import Any

import torch
from torch import Tensor, nn


class _Mean(torch.autograd.Function):
    """A mean in float32 or wider whose gradient stays one number for each that was returned.

    PyTorch's own writes it out over time and space, in float32, and converts that: three tensors as large as the
    features for a branch that reads them once.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(features: Tensor, axes: list[int], dtype: torch.dtype) -> Tensor:
        return features.mean(axes, dtype=dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, list[int], torch.dtype], output: Tensor) -> None:
        features, ctx.axes, _ = inputs
        ctx.shape, ctx.dtype = features.shape, features.dtype

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        share, averaged = grads[0], 1
        for axis in ctx.axes:
            share, averaged = share.unsqueeze(axis), averaged * ctx.shape[axis]
        return (share / averaged).to(ctx.dtype).expand(ctx.shape), None, None


def pool(features: Tensor, time_axis: int | None) -> Tensor:
    """Average a tapped output over time and space.

    Args:
        features: ``[T, N, C, *space]`` with ``time_axis=0``, ``[N, T, C, *space]`` with ``time_axis=1``,
            or ``[N, C, *space]`` with ``time_axis=None`` (the network is called once per time step).
        time_axis: where time lies.

    Returns:
        ``[N, C]``, in float32 for half-precision input so that the mean loses no bits, and never the network's own
        tensor, which something behind the tap may change in place.
    """
    if time_axis not in (None, 0, 1):
        raise ValueError(f"time_axis must be 0, 1 or None (no time axis), got {time_axis!r}")
    least = 2 if time_axis is None else 3
    if features.dim() < least:
        raise ValueError(
            f"a tap with time_axis={time_axis} needs an output of at least {least} axes, "
            f"got shape {tuple(features.shape)}"
        )
    first_of_space = 2 if time_axis is None else 3
    axes = ([] if time_axis is None else [time_axis]) + list(range(first_of_space, features.dim()))
    dtype = torch.float32 if features.dtype in (torch.float16, torch.bfloat16) else features.dtype
    if not axes:
        return features.to(dtype, copy=True)
    mean: Tensor = _Mean.apply(features, axes, dtype)  # type: ignore[no-untyped-call]
    return mean


class Branch(nn.Module):
    """Class logits from the pooled output of one block.

    Pooling before the linear layer gives what pooling its outputs would, and keeps ``[N, C]`` values
    for the backward pass instead of a whole sequence of feature maps.
    """

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, pooled: Tensor) -> Tensor:
        """Map ``[N, C]`` to logits ``[N, num_classes]``."""
        logits: Tensor = self.classifier(pooled.to(self.classifier.weight.dtype))
        return logits
