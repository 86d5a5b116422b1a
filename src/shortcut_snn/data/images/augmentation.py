"""Random augmentations of training images."""

import math
import os
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from annotated_types import Ge, Interval
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ... import components
from ..._utils.random_state import seeded
from ...components.entries import check, fields_of, slot
from ..counter_random import Stream, below, random_bits, uniform


class Checked:
    """A frozen dataclass that checks its plain fields; it accepts a path as a string and a list as a tuple."""

    def __post_init__(self) -> None:
        for name, option in fields_of(type(self)).items():
            if slot(option.annotation) is None:
                value = getattr(self, name)
                value = os.fspath(value) if isinstance(value, os.PathLike) else value
                object.__setattr__(self, name, check(option.annotation, value, name))


Pixels = NDArray[np.uint8]
"""A batch of images ``[N, C, H, W]``. A recording's frames are stacked along the channels."""
Bits = NDArray[np.uint64]
"""64 random bits for each sample of a batch, ``[N]``."""
Fill = NDArray[np.uint8]
"""The colour of uncovered pixels, ``[C]``, or ``[1]`` for all channels: the mean colour of the data set."""
Fraction = Annotated[float, Interval(gt=0, le=1)]
UnitInterval = Annotated[float, Interval(ge=0, le=1)]


def draw_bits(seed: int, position: int, epochs: NDArray[np.int64], indices: NDArray[np.int64]) -> Bits:
    """Return independent random bits ``[N]`` for the samples ``(epoch, index)`` of a step."""
    return random_bits(seed, Stream.AUGMENT, position, epochs, indices)


class Augmentation(Checked, ABC):
    """An Augmentation changes a batch of images at random; a subclass implements ``__call__``.

    Example:
        >>> from dataclasses import dataclass
        >>> from shortcut_snn import components
        >>> @components.augmentation("negative")
        ... @dataclass(frozen=True)
        ... class Negative:
        ...     def __call__(self, images, bits, fill):
        ...         return np.where((bits % 2 == 0)[:, None, None, None], 255 - images, images)
        >>> from shortcut_snn.data import Digits
        >>> Digits(augment=("crop", "negative")).augment
        (Crop(padding=0.125), Negative())
    """

    takes_files: ClassVar[bool] = False
    """True if it has ``crop(image, size, bits)``, for each image in the size of its file, before all others."""
    takes_events: ClassVar[bool] = True
    """True if it suits frames of events too."""

    @abstractmethod
    def __call__(self, images: Pixels, bits: Bits, fill: Fill) -> Pixels:
        """Return the changed images ``[N, C, H, W]``; it may change ``images`` in place."""


@components.augmentation("affine")
@dataclass(frozen=True)
class Affine(Augmentation):
    """Rotate, scale, shear and shift by uniformly random amounts; pixels from outside are black.

    It helps small data sets of shapes most, such as digits. All frames of a recording move alike. Pixels are
    interpolated and rounded, so frames lose isolated events: 1 to 3 % of those of N-MNIST at 17x17 pixels, and up to 40
    % in sparse frames.

    Args:
        degrees: largest rotation, in either direction.
        scale: largest change of size, as a fraction.
        shear: largest shear along each axis, as a fraction of the other axis.
        shift: largest shift, as a fraction of the side.
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
        height, width = images.shape[2:]
        pad = max(1, int(height * self.padding))
        padded = np.pad(images, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        windows = sliding_window_view(padded, (height, width), axis=(2, 3))
        top, left = (below(random_bits(bits, axis), 2 * pad + 1) for axis in range(2))
        return windows[np.arange(len(images)), :, top, left]


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


@components.augmentation("flip")
@dataclass(frozen=True)
class Flip(Augmentation):
    """Mirror left and right with probability 1/2.

    Args:
        alternating: whether an image that one epoch mirrors is not mirrored in the next.
    """

    alternating: bool = False

    def __call__(self, images: Pixels, bits: Bits, fill: Fill) -> Pixels:
        """Mirror half of the images ``[N, C, H, W]`` in place."""
        chosen = below(bits, 2) == 1
        images[chosen] = images[chosen][..., ::-1]
        return images

    def draw_bits(self, seed: int, position: int, epochs: NDArray[np.int64], indices: NDArray[np.int64]) -> Bits:
        """Return random bits ``[N]``; if alternating, the highest one changes with every epoch and decides."""
        if not self.alternating:
            return draw_bits(seed, position, epochs, indices)
        first = draw_bits(seed, position, np.zeros_like(epochs), indices)
        return first ^ (epochs.astype(np.uint64) << np.uint64(63))


@components.augmentation("resized_crop")
@dataclass(frozen=True)
class ResizedCrop(Augmentation):
    """Crop a random part of an image file and resize it: ImageNet's usual training crop, by torchvision.

    Szegedy et al., "Going Deeper with Convolutions", CVPR 2015. It must be the first augmentation, because the crop is
    taken from the decoded file.

    Args:
        min_area: smallest part of the area.
    """

    min_area: Fraction = 0.08

    takes_files: ClassVar = True

    def __call__(self, images: Pixels, bits: Bits, fill: Fill) -> Pixels:
        """Return the images unchanged: :meth:`crop` has changed them."""
        return images

    def crop(self, image: Tensor, size: list[int], bits: int) -> Tensor:
        """Return the part of an image ``[C, H, W]`` that the random bits choose, resized to ``size``."""
        from torchvision.transforms.v2 import RandomResizedCrop  # type: ignore[attr-defined]

        crop: Callable[[Tensor], Tensor] = RandomResizedCrop(size, scale=(self.min_area, 1.0))
        with seeded(bits >> 1):
            return crop(image)


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
        # Indexing puts the three indexed axes first: [N, H, W, C].
        return np.moveaxis(images[np.arange(n)[:, None, None], :, rows[:, :, None], columns[:, None, :]], 3, 1)


@components.augmentation("autoaugment")
@dataclass(frozen=True)
class AutoAugment(Augmentation):
    """Apply one of 25 pairs of operations, each with its own probability: the policy found for CIFAR-10.

    Cubuk et al., "AutoAugment: Learning Augmentation Policies from Data", CVPR 2019, with torchvision's operations and
    magnitudes. Uncovered pixels get the mean colour.
    """

    takes_events: ClassVar = False
    takes_channels: ClassVar = (1, 3)

    def __call__(self, images: Pixels, bits: Bits, fill: Fill) -> Pixels:
        """Change images ``[N, C, H, W]`` in place; all that need the same operation go through it as one batch."""
        pairs = below(random_bits(bits, 0), len(policy()))
        result, colour = torch.from_numpy(images), fill.astype(float).tolist()
        for position in range(2):
            chosen = [policy()[pair][position] for pair in pairs]
            applied = uniform(random_bits(bits, 1 + 2 * position)) < [probability for _, probability, _ in chosen]
            negative = below(random_bits(bits, 2 + 2 * position), 2) == 1
            groups: dict[tuple[str, float], list[int]] = defaultdict(list)
            for index in np.flatnonzero(applied).tolist():
                name, _, level = chosen[index]
                amount = magnitude(name, level, images.shape[2:])
                groups[name, -amount if name in SIGNED and negative[index] else amount].append(index)
            for (name, amount), members in groups.items():
                result[members] = operations()[name](result[members], amount, colour)
        return images


SIGNED = frozenset({"ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast", "Sharpness"})
"""Operations whose magnitude changes its sign with probability 1/2."""


@cache
def policy() -> Sequence[Sequence[tuple[str, float, int]]]:
    """Return the 25 pairs of (operation, probability, level); operations without a magnitude have level 0."""
    from torchvision import transforms

    pairs = transforms.AutoAugment(transforms.AutoAugmentPolicy.CIFAR10).policies
    return [[(name, probability, level or 0) for name, probability, level in pair] for pair in pairs]


@cache
def magnitude(name: str, level: int, size: tuple[int, ...]) -> float:
    """Return the magnitude that a level of 0 to 9 means for an operation on images of ``size`` (H, W)."""
    if name == "Posterize":
        return 8 - round(level / 2.25)
    if name == "Solarize":
        return 255 * float(torch.linspace(1, 0, 10)[level])
    largest = {"ShearY": 0.3, "Rotate": 30, "TranslateX": 150 / 331 * size[1], "TranslateY": 150 / 331 * size[0]}
    return float(torch.linspace(0, largest.get(name, 0.9), 10)[level])


@cache
def operations() -> dict[str, Callable[[Tensor, float, Any], Any]]:
    """Return the policy's operations: functions of images uint8 ``[N, C, H, W]``, a magnitude and the fill colour."""
    # torchvision takes a second to import, and little else needs it.
    from torchvision.transforms.v2 import functional

    tv: Any = functional

    def shear(images: Tensor, amount: float, fill: Any) -> Any:
        angles = [0.0, math.degrees(math.atan(amount))]
        return tv.affine(images, 0.0, [0, 0], 1.0, angles, fill=fill, center=[0.0, 0.0])

    return {
        "ShearY": shear,
        "TranslateX": lambda images, amount, fill: tv.affine(images, 0.0, [int(amount), 0], 1.0, [0.0, 0.0], fill=fill),
        "TranslateY": lambda images, amount, fill: tv.affine(images, 0.0, [0, int(amount)], 1.0, [0.0, 0.0], fill=fill),
        "Rotate": lambda images, amount, fill: tv.rotate(images, amount, fill=fill),
        "Brightness": lambda images, amount, fill: tv.adjust_brightness(images, 1 + amount),
        "Color": lambda images, amount, fill: tv.adjust_saturation(images, 1 + amount),
        "Contrast": lambda images, amount, fill: tv.adjust_contrast(images, 1 + amount),
        "Sharpness": lambda images, amount, fill: tv.adjust_sharpness(images, 1 + amount),
        "Posterize": lambda images, amount, fill: tv.posterize(images, int(amount)),
        "Solarize": lambda images, amount, fill: tv.solarize(images, amount),
        "AutoContrast": lambda images, amount, fill: tv.autocontrast(images),
        "Equalize": lambda images, amount, fill: tv.equalize(images),
        "Invert": lambda images, amount, fill: tv.invert(images),
    }
