"""Which part of an image a resized crop takes: ImageNet's usual training crop, as a pure function of random bits.

Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, with torchvision's numbers: 8 to 100 % of the area, an
aspect ratio from 3/4 to 4/3, and the largest such part at the centre if ten tries find none that fits.
"""

import math

import numpy as np
from numpy.typing import NDArray

from .counter_random import random_bits

Box = tuple[int, int, int, int]
"""Top, left, height and width in pixels."""

_TRIES = 10
_LEAST_AREA = 0.08
_ASPECT = (3 / 4, 4 / 3)


def box(height: int, width: int, bits: np.uint64) -> Box:
    """Return the part of an image of this size that belongs to the bits."""
    narrow, wide = (math.log(aspect) for aspect in _ASPECT)
    for scale, shape, down, right in _uniform(bits, 4 * _TRIES).reshape(_TRIES, 4).tolist():
        area = height * width * (_LEAST_AREA + (1 - _LEAST_AREA) * scale)
        aspect = math.exp(narrow + (wide - narrow) * shape)
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(down * (height - h + 1)), int(right * (width - w + 1)), h, w
    w = min(width, max(1, round(height * _ASPECT[1])))
    h = min(height, max(1, round(width / _ASPECT[0])))
    return (height - h) // 2, (width - w) // 2, h, w


def _uniform(bits: np.uint64, count: int) -> NDArray[np.float64]:
    """Return so many numbers from 0 to below 1."""
    return (random_bits(bits, np.arange(count)) >> np.uint64(11)).astype(np.float64) * 2.0**-53
