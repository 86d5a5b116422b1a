"""Augmentation whose every choice is a pure function of (seed, epoch, index).

So a sample looks the same whichever process draws it, in whatever batch, and after any resume. Crop, flip and cutout
work on a whole batch at once: one sample at a time, torchvision's transforms cost many times more.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from .config import Augmentation
from .counter_random import Stream, below, random_bits

Pixels = NDArray[np.uint8]
"""A batch of images, ``[N, C, H, W]``."""
Bits = NDArray[np.uint64]
"""Random bits of each sample of a batch, ``[N]``."""
Colour = NDArray[np.uint8]
"""The mean colour, ``[C]`` (or ``[1]``, one for all)."""
_ROLL = 5


@dataclass(frozen=True)
class Augment:
    """Named augmentations in their order; calling it augments a batch.

    Args:
        names: what to apply.
        seed: of the choices.
        mean: mean colour per channel on the 0..1 scale: fills what cutout covers and autoaugment uncovers.

    """

    names: tuple[Augmentation, ...]
    seed: int
    mean: tuple[float, ...]

    def __post_init__(self) -> None:
        if "autoaugment" in self.names:
            # Once here, instead of once in each worker process.
            from . import autoaugment  # noqa: F401

    def __call__(self, images: Pixels, epochs: NDArray[np.int64], indices: NDArray[np.int64]) -> Pixels:
        """Return uint8 ``[N, C, H, W]``, each image changed (maybe in place) as its epoch and index ``[N]`` say."""
        colour = np.rint(np.array(self.mean) * 255).astype(np.uint8)
        for name in self.names:
            if name == "resized_crop":  # it has happened as the images were decoded
                continue
            number, apply = _AUGMENTATIONS[name]
            images = apply(images, random_bits(self.seed, Stream.AUGMENT, number, epochs, indices), colour)
        return images

    def resized_crops(self, epochs: NDArray[np.int64], indices: NDArray[np.int64]) -> Bits | None:
        """Return the bits ``[N]`` that say which part of each image is decoded; None: the usual one."""
        if "resized_crop" not in self.names:
            return None
        return random_bits(self.seed, Stream.AUGMENT, _RESIZED_CROP, epochs, indices)


def crop(images: Pixels, bits: Bits, colour: Colour) -> Pixels:
    """Pad by an eighth of the height with black (at least 1 pixel), then crop the size at random."""
    n, channels, height, width = images.shape
    pad = max(1, height // 8)
    padded = np.zeros((n, channels, height + 2 * pad, width + 2 * pad), np.uint8)
    padded[:, :, pad:-pad, pad:-pad] = images
    windows = sliding_window_view(padded, (height, width), axis=(2, 3))
    top, left = (below(random_bits(bits, axis), 2 * pad + 1) for axis in range(2))
    result: Pixels = windows[np.arange(n), :, top, left]
    return result


def flip(images: Pixels, bits: Bits, colour: Colour) -> Pixels:
    """Mirror left and right with probability 1/2."""
    chosen = below(bits, 2) == 1
    images[chosen] = images[chosen][..., ::-1]
    return images


def roll(images: Pixels, bits: Bits, colour: Colour) -> Pixels:
    """Move by up to 5 pixels up or down and left or right; what leaves on one side enters on the other."""
    n, _, height, width = images.shape
    down, right = (below(random_bits(bits, axis), 2 * _ROLL + 1) - _ROLL for axis in range(2))
    rows, columns = ((np.arange(side) - moved[:, None]) % side for side, moved in ((height, down), (width, right)))
    result: Pixels = images[np.arange(n)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    # The chosen axes come first.
    return np.ascontiguousarray(np.moveaxis(result, 3, 1))


def cutout(images: Pixels, bits: Bits, colour: Colour) -> Pixels:
    """Cover a square of half the height, centred at any pixel and clipped at the border, with the mean colour."""
    height, width = images.shape[2:]
    side = max(1, height // 2)
    rows, columns = (
        _covered(below(random_bits(bits, axis), length), side, length) for axis, length in ((0, height), (1, width))
    )
    covered = rows[:, None, :, None] & columns[:, None, None, :]
    return np.where(covered, colour[:, None, None], images)


def _covered(centre: NDArray[np.int64], side: int, length: int) -> NDArray[np.bool_]:
    start = centre[:, None] - side // 2
    place = np.arange(length)
    return (place >= start) & (place < start + side)


def _autoaugment(images: Pixels, bits: Bits, colour: Colour) -> Pixels:
    # torchvision takes a second to import, and only this augmentation needs it.
    from .autoaugment import autoaugment

    return autoaugment(images, bits, colour)


# The number tells an augmentation's random numbers from the others'; never change one.
_RESIZED_CROP = 5
_AUGMENTATIONS: dict[Augmentation, tuple[int, Callable[[Pixels, Bits, Colour], Pixels]]] = {
    "crop": (0, crop),
    "flip": (1, flip),
    "autoaugment": (2, _autoaugment),
    "cutout": (3, cutout),
    "roll": (4, roll),
}
