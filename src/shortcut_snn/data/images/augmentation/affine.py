"""Random rotation, scaling, shear and shift."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from annotated_types import Interval
from torch.nn import functional as F

from .... import components
from ...counter_random import random_bits, uniform
from .base import Augmentation, Bits, Fill, Pixels

UnitInterval = Annotated[float, Interval(ge=0, le=1)]


@components.augmentation("affine")
@dataclass(frozen=True)
class Affine(Augmentation):
    """Rotate, scale, shear and shift by uniformly random amounts; pixels from outside are black.

    It helps small data sets of shapes most, such as digits. All frames of a recording move alike.

    Args:
        degrees: largest rotation, in either direction.
        scale: largest change of size, as a fraction.
        shear: largest shear along each axis, as a fraction of the other axis.
        shift: largest shift, as a fraction of the side.

    Example:
        >>> from shortcut_snn.data import Digits
        >>> Digits(augment=("crop", Affine(degrees=10.0))).augment
        (Crop(padding=0.125), Affine(degrees=10.0, scale=0.15, shear=0.2, shift=0.1))
    """

    degrees: Annotated[float, Interval(ge=0, le=180)] = 15.0
    scale: UnitInterval = 0.15
    shear: UnitInterval = 0.2
    shift: UnitInterval = 0.1

    def __call__(self, images: Pixels, bits: Bits, fill: Fill) -> Pixels:
        """Return the transformed images ``[N, C, H, W]``, sampled bilinearly."""
        turn, grow, shear_x, shear_y, right, down = 2 * uniform(random_bits(bits, np.arange(6)[:, None])) - 1
        angle, size = np.deg2rad(self.degrees) * turn, (1 + self.scale) ** -grow
        cos, sin = np.cos(angle) * size, np.sin(angle) * size
        shear_x, shear_y = self.shear * shear_x, self.shear * shear_y
        # torch's coordinates run from -1 to 1 along both axes, so a side has length 2, and rotation needs the ratio.
        right, down = 2 * self.shift * right, 2 * self.shift * down
        tall = images.shape[-2] / images.shape[-1]
        # theta maps every output pixel to the input position that it shows: a shear, then a rotation.
        theta = np.stack(
            [
                cos - sin * shear_y, (cos * shear_x - sin) * tall, right,
                (sin + cos * shear_y) / tall, sin * shear_x + cos, down,
            ],
            axis=1,
        )  # fmt: skip
        grid = F.affine_grid(torch.from_numpy(theta.reshape(-1, 2, 3)).float(), list(images.shape), align_corners=False)
        moved = F.grid_sample(torch.from_numpy(images).float(), grid, align_corners=False)
        return moved.round().to(torch.uint8).numpy()
