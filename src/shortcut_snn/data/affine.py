"""A small turn, change of size, shear and shift of whole batches."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from annotated_types import Interval
from torch.nn import functional as F

from .. import components
from .augment import Augmentation, Bits, Colour, Pixels
from .counter_random import random_bits, uniform

Part = Annotated[float, Interval(ge=0, le=1)]


@components.augmentation("affine")
@dataclass(frozen=True)
class Affine(Augmentation):
    """Turn, scale, shear and shift at random, each evenly up to its most and to both sides; outside is black.

    What few images of shapes need most, such as digits or recordings of them: all frames of a recording move alike.

    Args:
        degrees: the largest turn.
        scale: the largest growth, as a fraction; as likely it shrinks by as much.
        shear: the largest shear along each axis, as a fraction of the other.
        shift: the farthest move, as a fraction of the side.

    Example:
        >>> from shortcut_snn.data import Digits
        >>> Digits(augment=("crop", Affine(degrees=10.0))).augment
        (Crop(padding=0.125), Affine(degrees=10.0, scale=0.15, shear=0.2, shift=0.1))
    """

    degrees: Annotated[float, Interval(ge=0, le=180)] = 15.0
    scale: Part = 0.15
    shear: Part = 0.2
    shift: Part = 0.1
    stream: ClassVar[int] = 6

    def __call__(self, images: Pixels, bits: Bits, colour: Colour) -> Pixels:
        """Move images ``[N, C, H, W]``, between pixels by their four neighbours."""
        turn, grow, shear_x, shear_y, *shift = 2 * uniform(random_bits(bits, np.arange(6)[:, None])) - 1
        angle, size = np.deg2rad(self.degrees) * turn, (1 + self.scale) ** -grow
        cos, sin = np.cos(angle) * size, np.sin(angle) * size
        shear_x, shear_y = self.shear * shear_x, self.shear * shear_y
        right, down = (2 * self.shift * each for each in shift)
        # Where each pixel comes from, its image being from -1 to 1 either way, however long: a shear, then a turn.
        tall = images.shape[-2] / images.shape[-1]
        across, along = (cos * shear_x - sin) * tall, (sin + cos * shear_y) / tall
        rows = [cos - sin * shear_y, across, right, along, sin * shear_x + cos, down]
        theta = torch.from_numpy(np.stack(rows, 1).reshape(-1, 2, 3)).float()
        grid = F.affine_grid(theta, list(images.shape), align_corners=False)
        moved = F.grid_sample(torch.from_numpy(images).float(), grid, align_corners=False)
        return moved.round().to(torch.uint8).numpy()
