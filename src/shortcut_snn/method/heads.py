"""Auxiliary heads: the modules of a branch, which map its tap to predictions.

A head is a module made by ``(channels, outputs)``. It takes the tap's output averaged over time and space, ``[N, C]``.
A head with ``pools = False`` takes ``[N, C, *space]`` and averages over space itself, if at all.
"""

import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn import functional

from .. import components

Head = Callable[[int, int], nn.Module]
"""``(channels, outputs) -> module``: a factory of auxiliary heads."""


class _Mean(torch.autograd.Function):
    """A mean in float32 or wider whose gradient is an expanded view.

    PyTorch's mean materialises its gradient over time and space in float32 and then converts it. That takes three
    tensors of the size of the features for a branch that reads them once.
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


def pool(features: Tensor, time_axis: int | None, space: bool = True) -> Tensor:
    """Average a tapped output over time and space, in float32 for half-precision input.

    ``[T, N, C, *space]`` with ``time_axis=0``, ``[N, T, C, *space]`` with ``time_axis=1``, and ``[N, C, *space]`` with
    ``time_axis=None`` become ``[N, C]``, or ``[N, C, *space]``. The result is always a new tensor, since a later layer
    may change the features in place.
    """
    if time_axis not in (None, 0, 1):
        raise ValueError(f"time_axis must be 0, 1 or None (no time axis), got {time_axis!r}")
    first_of_space = 2 if time_axis is None else 3
    if features.dim() < first_of_space:
        raise ValueError(
            f"a tap with time_axis={time_axis} needs an output of at least {first_of_space} axes, "
            f"got shape {tuple(features.shape)}"
        )
    axes = ([] if time_axis is None else [time_axis]) + (list(range(first_of_space, features.dim())) if space else [])
    dtype = torch.float32 if features.dtype in (torch.float16, torch.bfloat16) else features.dtype
    if not axes:
        return features.to(dtype, copy=True)
    mean: Tensor = _Mean.apply(features, axes, dtype)  # type: ignore[no-untyped-call]
    return mean


@components.head("linear")
class LinearHead(nn.Module):
    """The paper's head: mean over time and space, then one fully connected layer.

    Pooling before the linear layer equals pooling after it, and keeps ``[N, C]`` values for the backward pass instead
    of a sequence of feature maps.

    Args:
        channels: C of the tapped output.
        num_classes: number of values predicted per sample.
        init_std: standard deviation of the initial weights, with biases 0. ``"1/n"`` is one over the number of
            channels, as in the authors' code. 0 starts with logits of 0. null is torch's default.

    Example:
        >>> LinearHead(16, 10, init_std=0.0)(torch.ones(2, 16)).abs().max()
        tensor(0., grad_fn=<MaxBackward1>)
    """

    pools: ClassVar[bool] = True

    def __init__(
        self, channels: int, num_classes: int, init_std: Annotated[float, Ge(0)] | Literal["1/n"] | None = None
    ) -> None:
        super().__init__()
        self.classifier = nn.Linear(channels, num_classes)
        if init_std is not None:
            nn.init.normal_(self.classifier.weight, std=1 / channels if init_std == "1/n" else init_std)
            nn.init.zeros_(self.classifier.bias)

    def forward(self, pooled: Tensor) -> Tensor:
        """Map ``[N, C]`` to logits ``[N, num_classes]``."""
        logits: Tensor = self.classifier(pooled)
        return logits


@components.head("conv")
class ConvHead(nn.Module):
    """A 3x3 convolution with batch norm and ReLU on the firing rates, mean over space, one fully connected layer.

    Enhanced self-distillation for spiking networks (NeurIPS 2025) has branches of this kind.

    Args:
        channels: C of the tapped output.
        num_classes: number of values predicted per sample.
        width: channels of the convolution; null for the number of input channels.

    Example:
        >>> ConvHead(16, 10, width=8)(torch.rand(2, 16, 4, 4)).shape
        torch.Size([2, 10])
    """

    pools: ClassVar[bool] = False

    def __init__(self, channels: int, num_classes: int, width: Annotated[int, Ge(1)] | None = None) -> None:
        super().__init__()
        width = channels if width is None else width
        self.conv = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, rates: Tensor) -> Tensor:
        """Map ``[N, C, H, W]`` to logits ``[N, num_classes]``.

        Raises:
            ValueError: the tap has no two axes of space.
        """
        if rates.dim() != 4:
            raise ValueError(
                f"a conv head needs a tap of images, [N, C, H, W] without time, got shape {tuple(rates.shape)}: use "
                "head='linear'"
            )
        logits: Tensor = self.classifier(self.norm(self.conv(rates)).relu().mean((2, 3)))
        return logits


@components.head("dense")
class DenseHead(nn.Module):
    """One linear layer at every position, for predictions at every position, as in segmentation.

    The wrapper interpolates its predictions to the size of the network's output.

    Args:
        channels: C of the tapped output.
        num_classes: number of values predicted per position.

    Example:
        >>> DenseHead(16, 10)(torch.rand(2, 16, 4, 4)).shape
        torch.Size([2, 10, 4, 4])
    """

    pools: ClassVar[bool] = False

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, rates: Tensor) -> Tensor:
        """Map ``[N, C, *space]`` to ``[N, num_classes, *space]``."""
        logits: Tensor = self.classifier(rates.movedim(1, -1)).movedim(-1, 1)
        return logits


def fit_space(logits: Tensor, space: Sequence[int]) -> Tensor:
    """Return predictions ``[N, classes, *positions]`` at the positions of the network's output.

    Positions of an image are interpolated. Surplus axes, such as time, are averaged first. Tokens are folded into an
    image of the output's proportions; where they do not fit one, or there are no positions, all get the same.
    """
    surplus = logits.dim() - 2 - len(space)
    if surplus > 0:
        logits = logits.mean(list(range(2, 2 + surplus)))
    elif surplus < 0:
        height = round(math.sqrt(logits.shape[2] * space[0] / space[1])) if logits.dim() == 3 and surplus == -1 else 0
        width = logits.shape[2] // height if height else 0
        if height and height * width == logits.shape[2] and height * space[1] == width * space[0]:
            logits = logits.unflatten(2, (height, width))  # type: ignore[no-untyped-call]
        else:
            logits = logits.flatten(2).mean(2) if logits.dim() > 2 else logits
            return logits.view(*logits.shape, *[1] * len(space)).expand(*logits.shape, *space)
    if logits.shape[2:] == tuple(space):
        return logits
    # One axis of space for sequences, two for images, three for volumes.
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}.get(len(space), "nearest")
    return functional.interpolate(logits, list(space), mode=mode)


def fit_prediction(logits: Tensor, main: Sequence[int], shape: Sequence[int] | None) -> Tensor:
    """Return a branch's prediction in the form of the network's, of sizes ``main``, both of one time step.

    The head gives ``[N, values]`` or ``[N, values, *space]``. The network predicts one number ``[N]``, logits
    ``[N, classes]``, a map ``[N, classes, *space]``, or values ``[N, *shape]``.
    """
    if logits.shape[1:] == (1,) and len(main) == 1:
        return logits.squeeze(1)
    if shape is not None and logits.dim() == 2:
        return logits.unflatten(1, tuple(shape))  # type: ignore[no-untyped-call, no-any-return]
    # Without a readout, the network may return logits of every time step, [T, N, classes], and the head [N, classes].
    is_map = logits.dim() > 2 or tuple(main[:2]) == logits.shape
    return fit_space(logits, main[2:]) if is_map else logits


def fit_steps(predictions: Tensor, steps: int) -> Tensor:
    """Return predictions ``[T, N, ...]`` averaged over parts of the time, or repeated, so that there are ``steps``."""
    if len(predictions) == steps:
        return predictions
    averaged = functional.adaptive_avg_pool1d(predictions.flatten(1).T, steps)
    return averaged.T.reshape(steps, *predictions.shape[1:])
