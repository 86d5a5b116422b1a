"""Random crop after padding."""

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from .... import components
from ...counter_random import below, random_bits
from .base import Augmentation, Bits, Fill, Fraction, Pixels


@components.augmentation("crop")
@dataclass(frozen=True)
class Crop(Augmentation):
    """Pad with black, then crop the original size at a random position.

    Args:
        padding: pixels added to every side, as a fraction of the height; at least 1 pixel.
    """

    padding: Fraction = 0.125

    def __call__(self, images: Pixels, bits: Bits, fill: Fill) -> Pixels:
        """Return random crops of the padded images ``[N, C, H, W]``."""
        n, channels, height, width = images.shape
        pad = max(1, int(height * self.padding))
        padded = np.zeros((n, channels, height + 2 * pad, width + 2 * pad), np.uint8)
        padded[:, :, pad:-pad, pad:-pad] = images
        windows = sliding_window_view(padded, (height, width), axis=(2, 3))
        top, left = (below(random_bits(bits, axis), 2 * pad + 1) for axis in range(2))
        result: Pixels = windows[np.arange(n), :, top, left]
        return result
