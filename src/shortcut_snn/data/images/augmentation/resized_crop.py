"""ImageNet's random resized crop."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .... import components
from ...counter_random import random_bits, uniform
from .base import Augmentation, Bits, Box, Fill, Fraction, Pixels

_TRIES = 10
_ASPECT_RATIOS = (3 / 4, 4 / 3)


@components.augmentation("resized_crop")
@dataclass(frozen=True)
class ResizedCrop(Augmentation):
    """Crop a random part of an image file and resize it: ImageNet's usual training crop.

    Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, with torchvision's numbers: an aspect ratio from 3/4 to
    4/3, and the largest such part at the centre if ten tries find none that fits. It must be the first augmentation,
    because the crop is taken from the decoded file.

    Args:
        least: smallest part of the area.
    """

    least: Fraction = 0.08
    stream: ClassVar[int] = 5

    def __call__(self, images: Pixels, bits: Bits, fill: Fill) -> Pixels:
        """Return the images unchanged: the data set applies :meth:`box` while it decodes."""
        return images

    def box(self, height: int, width: int, bits: np.uint64) -> Box:
        """Return the part of an image of ``height`` by ``width`` pixels that the random bits choose."""
        shortest, longest = (math.log(ratio) for ratio in _ASPECT_RATIOS)
        tries = uniform(random_bits(bits, np.arange(4 * _TRIES))).reshape(_TRIES, 4)
        for scale, shape, down, right in tries.tolist():
            area = height * width * (self.least + (1 - self.least) * scale)
            ratio = math.exp(shortest + (longest - shortest) * shape)
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                return int(down * (height - h + 1)), int(right * (width - w + 1)), h, w
        w = min(width, max(1, round(height * _ASPECT_RATIOS[1])))
        h = min(height, max(1, round(width / _ASPECT_RATIOS[0])))
        return (height - h) // 2, (width - w) // 2, h, w
