"""Augmentation whose every choice is a pure function of (seed, epoch, index).

So a sample looks the same whichever process draws it, in whatever batch, and after any resume. All but the resized crop
work on a whole batch at once: one sample at a time, torchvision's transforms cost many times more.
"""

import math
import zlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from annotated_types import Ge, Interval
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from .. import components
from .checked import Checked
from .counter_random import Stream, below, random_bits, uniform
from .images import Box

Pixels = NDArray[np.uint8]
"""A batch of images, ``[N, C, H, W]``; of recordings, the channels of all frames."""
Bits = NDArray[np.uint64]
"""Random bits of each sample of a batch, ``[N]``."""
Colour = NDArray[np.uint8]
"""The mean colour, ``[C]`` (or ``[1]``, one for all)."""
Share = Annotated[float, Interval(gt=0, le=1)]


class Augmentation(Checked, ABC):
    """Changes a batch of images as their random bits say; one of your own needs ``__call__`` alone.

    Attributes:
        stream: tells its random numbers from the others'; never change one. Without it, the name's checksum does.

    Example:
        >>> from dataclasses import dataclass
        >>> from shortcut_snn import components
        >>> @components.augmentation("negative")
        ... @dataclass(frozen=True)
        ... class Negative:
        ...     def __call__(self, images, bits, colour):
        ...         return np.where((bits % 2 == 0)[:, None, None, None], 255 - images, images)
        >>> from shortcut_snn.data import Digits
        >>> Digits(augment=("crop", "negative")).augment
        (Crop(padding=0.125), Negative())
    """

    stream: ClassVar[int]

    @abstractmethod
    def __call__(self, images: Pixels, bits: Bits, colour: Colour) -> Pixels:
        """Return the images changed, maybe in place; ``colour`` is the set's mean."""


class Augment:
    """Augmentations in their order; calling it augments a batch.

    Args:
        steps: what to apply.
        seed: of the choices.
        mean: mean colour per channel on the 0..1 scale: fills what cutout covers and autoaugment uncovers.

    """

    def __init__(self, steps: tuple[Any, ...], seed: int, mean: tuple[float, ...]) -> None:
        self.steps, self.seed = steps, seed
        self.colour = np.rint(np.array(mean) * 255).astype(np.uint8)
        numbers = [_stream(step) for step in steps]
        # The second of a kind has other random numbers than the first.
        repeats = [numbers[:place].count(number) for place, number in enumerate(numbers)]
        self._streams = [(number, *([again] if again else [])) for number, again in zip(numbers, repeats, strict=True)]

    def __call__(self, images: Pixels, epochs: NDArray[np.int64], indices: NDArray[np.int64]) -> Pixels:
        """Return uint8 ``[N, C, H, W]``, each image changed (maybe in place) as its epoch and index ``[N]`` say."""
        for place, step in enumerate(self.steps):
            if not isinstance(step, ResizedCrop):  # that has happened as the images were decoded
                shape = images.shape
                images = np.ascontiguousarray(step(images, self.bits(place, epochs, indices), self.colour))
                if images.dtype != np.uint8 or images.shape != shape:
                    raise ValueError(
                        f"data.augment: {type(step).__name__} makes {images.dtype} {images.shape} of images that are "
                        f"uint8 {shape}: it has to return bytes of the same shape, from 0 to 255"
                    )
        return images

    def bits(self, place: int, epochs: NDArray[np.int64], indices: NDArray[np.int64]) -> Bits:
        """Return the random bits ``[N]`` of the step in this place."""
        number, *again = self._streams[place]
        return random_bits(self.seed, Stream.AUGMENT, number, epochs, indices, *again)


def _stream(step: Any) -> int:
    number = getattr(step, "stream", None)
    return zlib.crc32(components.kind_and_name(step)[1].encode()) if number is None else int(number)


@components.augmentation("crop")
@dataclass(frozen=True)
class Crop(Augmentation):
    """Pad with black, then crop the size at random.

    Args:
        padding: as a fraction of the height; at least 1 pixel.
    """

    padding: Share = 0.125
    stream: ClassVar[int] = 0

    def __call__(self, images: Pixels, bits: Bits, colour: Colour) -> Pixels:
        """Crop images ``[N, C, H, W]``."""
        n, channels, height, width = images.shape
        pad = max(1, int(height * self.padding))
        padded = np.zeros((n, channels, height + 2 * pad, width + 2 * pad), np.uint8)
        padded[:, :, pad:-pad, pad:-pad] = images
        windows = sliding_window_view(padded, (height, width), axis=(2, 3))
        top, left = (below(random_bits(bits, axis), 2 * pad + 1) for axis in range(2))
        result: Pixels = windows[np.arange(n), :, top, left]
        return result


@components.augmentation("flip")
@dataclass(frozen=True)
class Flip(Augmentation):
    """Mirror left and right with probability 1/2."""

    stream: ClassVar[int] = 1

    def __call__(self, images: Pixels, bits: Bits, colour: Colour) -> Pixels:
        """Mirror images ``[N, C, H, W]`` in place."""
        chosen = below(bits, 2) == 1
        images[chosen] = images[chosen][..., ::-1]
        return images


@components.augmentation("roll")
@dataclass(frozen=True)
class Roll(Augmentation):
    """Move up or down and left or right at random; what leaves on one side enters on the other.

    Args:
        pixels: the farthest.
    """

    pixels: Annotated[int, Ge(1)] = 5
    stream: ClassVar[int] = 4

    def __call__(self, images: Pixels, bits: Bits, colour: Colour) -> Pixels:
        """Move images ``[N, C, H, W]``."""
        n, _, height, width = images.shape
        down, right = (below(random_bits(bits, axis), 2 * self.pixels + 1) - self.pixels for axis in range(2))
        rows, columns = ((np.arange(side) - moved[:, None]) % side for side, moved in ((height, down), (width, right)))
        result: Pixels = images[np.arange(n)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
        # The chosen axes come first.
        return np.moveaxis(result, 3, 1)


@components.augmentation("cutout")
@dataclass(frozen=True)
class Cutout(Augmentation):
    """Cover a square, centred at any pixel and clipped at the border, with the mean colour.

    Args:
        size: its side as a fraction of the height.
    """

    size: Share = 0.5
    stream: ClassVar[int] = 3

    def __call__(self, images: Pixels, bits: Bits, colour: Colour) -> Pixels:
        """Cover a part of images ``[N, C, H, W]``."""
        height, width = images.shape[2:]
        side = max(1, int(height * self.size))
        rows, columns = (
            _covered(below(random_bits(bits, axis), length), side, length) for axis, length in ((0, height), (1, width))
        )
        covered = rows[:, None, :, None] & columns[:, None, None, :]
        return np.where(covered, colour[:, None, None], images)


def _covered(centre: NDArray[np.int64], side: int, length: int) -> NDArray[np.bool_]:
    start = centre[:, None] - side // 2
    place = np.arange(length)
    return (place >= start) & (place < start + side)


_TRIES = 10
_ASPECT = (3 / 4, 4 / 3)


@components.augmentation("resized_crop")
@dataclass(frozen=True)
class ResizedCrop(Augmentation):
    """Take a part of an image file and make it the size of the images: ImageNet's usual training crop.

    Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, with torchvision's numbers: an aspect ratio from 3/4 to
    4/3, and the largest such part at the centre if ten tries find none that fits. It comes first, as it decides what is
    decoded.

    Args:
        least: smallest part of the area.
    """

    least: Share = 0.08
    stream: ClassVar[int] = 5

    def __call__(self, images: Pixels, bits: Bits, colour: Colour) -> Pixels:
        """Return the images as they are: they were cropped as they were decoded."""
        return images

    def box(self, height: int, width: int, bits: np.uint64) -> Box:
        """Return the part of an image of this size that belongs to the bits."""
        narrow, wide = (math.log(aspect) for aspect in _ASPECT)
        tries = uniform(random_bits(bits, np.arange(4 * _TRIES))).reshape(_TRIES, 4)
        for scale, shape, down, right in tries.tolist():
            area = height * width * (self.least + (1 - self.least) * scale)
            aspect = math.exp(narrow + (wide - narrow) * shape)
            w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < w <= width and 0 < h <= height:
                return int(down * (height - h + 1)), int(right * (width - w + 1)), h, w
        w = min(width, max(1, round(height * _ASPECT[1])))
        h = min(height, max(1, round(width / _ASPECT[0])))
        return (height - h) // 2, (width - w) // 2, h, w
