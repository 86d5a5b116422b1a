"""Cheaper first steps of a run: smaller images and fewer time steps."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge, Gt, Lt
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class ProgressiveResizing:
    """The first part of a run trains on smaller images and fewer time steps.

    Validation and tests use full images and all time steps throughout. The learning rate's schedule is not affected.
    The cost of a step is about proportional to the pixels and time steps.

    Args:
        fraction: the part of all steps that is cheaper.
        size: height and width in pixels to which images are reduced, after augmentation; null for full size. Not for
            targets that have the image's height and width.
        time_steps: T of static images; null for the network's.

    Example:
        >>> import torch
        >>> ProgressiveResizing(0.5, size=24).resize(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 3, 24, 24])
    """

    fraction: Annotated[float, Gt(0), Lt(1)] = 0.5
    size: Annotated[int, Ge(1)] | None = None
    time_steps: Annotated[int, Ge(1)] | None = None

    def check(self, time_steps: int) -> None:
        """Raise an error if there are more time steps than the network's.

        Raises:
            ValueError: the message names both.
        """
        if self.time_steps is not None and self.time_steps > time_steps:
            raise ValueError(
                f"training.progressive_resizing.time_steps is {self.time_steps}, more than the network's {time_steps}; "
                "choose fewer"
            )

    def resize(self, images: Any) -> Any:
        """Return images ``[..., C, H, W]`` reduced to ``size``; images as small already are returned as they are.

        Raises:
            ValueError: the inputs are not images.
        """
        if self.size is None:
            return images
        if not isinstance(images, Tensor) or images.dim() < 4:
            kind = list(images.shape) if isinstance(images, Tensor) else type(images).__name__
            raise ValueError(
                f"training.progressive_resizing.size needs images [..., C, H, W], got {kind}; leave it out"
            )
        if max(images.shape[-2:]) <= self.size:
            return images
        small = F.interpolate(images.flatten(0, -4), size=(self.size, self.size), mode="bilinear", antialias=True)
        return small.reshape(*images.shape[:-2], *small.shape[-2:])

    @contextmanager
    def fewer_time_steps(self, network: nn.Module, inputs: Any) -> Iterator[None]:
        """Set a network's number of time steps within the block.

        Raises:
            ValueError: the network has no settable number of time steps, or its input is a sequence.
        """
        if self.time_steps is None:
            yield
            return
        settable: Any = network
        time_steps = getattr(settable, "time_steps", None)
        if not isinstance(time_steps, int) or not isinstance(inputs, Tensor) or inputs.dim() != 4:
            raise ValueError(
                "training.progressive_resizing.time_steps needs images [N, C, H, W] and a network with an attribute "
                f"time_steps, got {type(network).__name__}; leave it out"
            )
        self.check(time_steps)
        settable.time_steps = self.time_steps
        try:
            yield
        finally:
            settable.time_steps = time_steps
