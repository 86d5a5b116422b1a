"""Cheaper first epochs: smaller images and fewer time steps while there is much to learn and little to refine."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Early:
    """What the first part of a run trains on; validation and tests see whole images and all time steps throughout.

    The learning-rate schedule knows nothing of it. A step costs about in proportion to the pixels and time steps.

    Args:
        fraction: the part of all steps that is cheaper.
        size: pixels that images are reduced to, height and width alike, after augmentation; null for all. Not where the
            target has the image's height and width.
        time_steps: T of static images; null for the network's.

    Example:
        >>> import torch
        >>> Early(0.5, size=24).reduced(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 3, 24, 24])
    """

    fraction: Annotated[float, Gt(0), Lt(1)] = 0.5
    size: Annotated[int, Ge(1)] | None = None
    time_steps: Annotated[int, Ge(1)] | None = None

    def check(self, steps: int) -> None:
        """Refuse more time steps than a network's.

        Raises:
            ValueError: naming both.
        """
        if self.time_steps is not None and self.time_steps > steps:
            raise ValueError(
                f"training.early.time_steps is {self.time_steps}, and the network runs for {steps}: early steps are "
                "the cheaper ones"
            )

    def check_images(self, inputs: Any, target: Any) -> None:
        """Refuse to make smaller what is no image, or an image whose target would then be too large.

        Raises:
            ValueError: saying which.
        """
        if self.size is None:
            return
        if not isinstance(inputs, Tensor):
            raise ValueError(
                f"training.early.size is for images, and these inputs are a {type(inputs).__name__}; leave it out"
            )
        if inputs.dim() < 4 or not (inputs.is_floating_point() or inputs.dtype == torch.uint8):
            raise ValueError(
                f"training.early.size is for images [..., C, H, W], and these inputs are {inputs.dtype} "
                f"{list(inputs.shape)}; leave it out"
            )
        parts = (
            target.values() if isinstance(target, Mapping) else target if isinstance(target, tuple | list) else [target]
        )
        for part in parts:
            # Two axes alone are of samples and classes, even if there are as many of them.
            if isinstance(part, Tensor) and part.dim() > 2 and part.shape[-2:] == inputs.shape[-2:]:
                raise ValueError(
                    f"training.early.size makes images smaller, and this target {list(part.shape)} has their height "
                    "and width; leave it out"
                )

    def reduced(self, images: Tensor) -> Tensor:
        """Return smaller images.

        Args:
            images: ``[..., C, H, W]``; images that are as small already are returned as they are.
        """
        if self.size is None or max(images.shape[-2:]) <= self.size:
            return images
        flat = images.flatten(0, -4) if images.dim() > 4 else images
        small = F.interpolate(flat, size=(self.size, self.size), mode="bilinear", antialias=True)
        return small.reshape(*images.shape[:-2], *small.shape[-2:])

    @contextmanager
    def shorter(self, network: nn.Module, inputs: Any) -> Iterator[None]:
        """Let a network run for fewer time steps within a block.

        Raises:
            ValueError: the network's time steps cannot be set, or are those of its input.
        """
        if self.time_steps is None:
            yield
            return
        steps: Any = getattr(network, "time_steps", None)
        if not isinstance(steps, int):
            raise ValueError(
                f"training.early.time_steps: a {type(network).__name__} has no attribute time_steps that could be set; "
                "leave it out"
            )
        if not isinstance(inputs, Tensor) or inputs.dim() != 4:
            raise ValueError("training.early.time_steps is for images, and these are recordings; leave it out")
        self.check(steps)
        settable: Any = network
        settable.time_steps = self.time_steps
        try:
            yield
        finally:
            settable.time_steps = steps
