"""Random cyclic shift."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge

from .... import components
from ...counter_random import below, random_bits
from .base import Augmentation, Bits, Fill, Pixels


@components.augmentation("roll")
@dataclass(frozen=True)
class Roll(Augmentation):
    """Shift cyclically along both axes: pixels that leave on one side enter on the other.

    Args:
        pixels: largest shift along each axis.
    """

    pixels: Annotated[int, Ge(1)] = 5

    def __call__(self, images: Pixels, bits: Bits, fill: Fill) -> Pixels:
        """Return the shifted images ``[N, C, H, W]``."""
        n, _, height, width = images.shape
        down, right = (below(random_bits(bits, axis), 2 * self.pixels + 1) - self.pixels for axis in range(2))
        rows = (np.arange(height) - down[:, None]) % height
        columns = (np.arange(width) - right[:, None]) % width
        result: Pixels = images[np.arange(n)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
        # Indexing puts the three indexed axes first: [N, H, W, C].
        return np.moveaxis(result, 3, 1)
