"""scikit-learn's handwritten digits: 1,797 real images of 8x8, installed with the package."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from ... import components
from .augmentation import Crop
from .image_set import ImageSet, Source
from .images import ArrayImages


@components.data("digits")
@dataclass(frozen=True)
class Digits(ImageSet):
    """scikit-learn's digits, 8x8, of which a seeded, stratified 20 % become the test set.

    Example:
        >>> data = Digits(validation=0.1).load()
        >>> len(data.train), len(data.validation), len(data.test)
        (1293, 145, 359)
        >>> data.description["image_size"]
        [8, 8]
    """

    default_augment: ClassVar = (Crop(),)

    def read(self) -> Source:
        """Read the digits."""
        from sklearn.datasets import load_digits

        digits = load_digits()
        pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
        images = ArrayImages(torch.from_numpy(pixels).unsqueeze(1), torch.from_numpy(digits.target))
        return Source(images, None, [str(digit) for digit in range(10)])
