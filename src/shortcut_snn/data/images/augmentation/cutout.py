"""Cutout (DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout", 2017)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .... import components
from ...counter_random import below, random_bits
from .base import Augmentation, Bits, Fill, Fraction, Pixels


@components.augmentation("cutout")
@dataclass(frozen=True)
class Cutout(Augmentation):
    """Cover a square with the mean colour; its centre is any pixel, and the border clips it.

    Args:
        size: side of the square as a fraction of the height.
    """

    size: Fraction = 0.5

    def __call__(self, images: Pixels, bits: Bits, fill: Fill) -> Pixels:
        """Return images ``[N, C, H, W]`` with one covered square each."""
        height, width = images.shape[2:]
        side = max(1, int(height * self.size))
        rows = _covered(below(random_bits(bits, 0), height), side, height)
        columns = _covered(below(random_bits(bits, 1), width), side, width)
        covered = rows[:, None, :, None] & columns[:, None, None, :]
        return np.where(covered, fill[:, None, None], images)


def _covered(centres: NDArray[np.int64], side: int, length: int) -> NDArray[np.bool_]:
    """Return which of ``length`` pixels each interval covers, ``[N, length]``."""
    starts = centres[:, None] - side // 2
    pixels = np.arange(length)
    return (pixels >= starts) & (pixels < starts + side)
