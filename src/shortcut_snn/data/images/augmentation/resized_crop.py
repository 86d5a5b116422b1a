"""ImageNet's random resized crop."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .... import components
from .base import Augmentation, Bits, Fill, Fraction, Pixels


@components.augmentation("resized_crop")
@dataclass(frozen=True)
class ResizedCrop(Augmentation):
    """Crop a random part of an image file and resize it: ImageNet's usual training crop, by torchvision.

    Szegedy et al., "Going Deeper with Convolutions", CVPR 2015. It must be the first augmentation, because the crop is
    taken from the decoded file.

    Args:
        least: smallest part of the area.
    """

    least: Fraction = 0.08

    def __call__(self, images: Pixels, bits: Bits, fill: Fill) -> Pixels:
        """Return the images unchanged: the data set applies :meth:`crop` while it decodes."""
        return images

    def crop(self, image: Tensor, size: list[int], bits: int) -> Tensor:
        """Return the part of an image ``[C, H, W]`` that the random bits choose, resized to ``size``."""
        from torchvision.transforms.v2 import RandomResizedCrop  # type: ignore[attr-defined]

        with torch.random.fork_rng(devices=()):
            # torch.manual_seed would also seed every accelerator.
            torch.default_generator.manual_seed(bits >> 1)
            cropped: Tensor = RandomResizedCrop(size, scale=(self.least, 1.0))(image)
        return cropped
