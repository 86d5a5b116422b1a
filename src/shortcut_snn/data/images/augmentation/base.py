"""The base class of augmentations, and the pipeline that applies a list of them to a batch.

Every random choice is a pure function of (seed, epoch, index). A sample therefore looks the same in every process, in
every batch and after a resume. Each augmentation changes a whole batch at once, because a transform per sample is many
times slower.
"""

from abc import ABC, abstractmethod
from typing import Annotated, Any

import numpy as np
from annotated_types import Interval
from numpy.typing import NDArray

from ...checked import Checked
from ...counter_random import Stream, random_bits

Pixels = NDArray[np.uint8]
"""A batch of images ``[N, C, H, W]``. A recording's frames are stacked along the channels."""
Bits = NDArray[np.uint64]
"""64 random bits for each sample of a batch, ``[N]``."""
Fill = NDArray[np.uint8]
"""The colour of uncovered pixels, ``[C]``, or ``[1]`` for all channels: the mean colour of the data set."""
Fraction = Annotated[float, Interval(gt=0, le=1)]


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

    @abstractmethod
    def __call__(self, images: Pixels, bits: Bits, fill: Fill) -> Pixels:
        """Return the changed images ``[N, C, H, W]``; it may change ``images`` in place."""


class AugmentationPipeline:
    """Apply augmentations in order to a batch of images.

    Args:
        steps: the augmentations.
        seed: seeds every random choice.
        mean: mean colour per channel on the 0..1 scale; fills uncovered pixels.
    """

    def __init__(self, steps: tuple[Any, ...], seed: int, mean: tuple[float, ...]) -> None:
        self.steps, self.seed = steps, seed
        self.fill = np.rint(np.array(mean) * 255).astype(np.uint8)

    def __call__(self, images: Pixels, epochs: NDArray[np.int64], indices: NDArray[np.int64]) -> Pixels:
        """Return augmented images uint8 ``[N, C, H, W]``; ``epochs`` and ``indices`` ``[N]`` identify the samples."""
        for position, step in enumerate(self.steps):
            shape = images.shape
            bits = self.bits(position, epochs, indices)
            images = np.ascontiguousarray(step(images, bits, self.fill))
            if images.dtype != np.uint8 or images.shape != shape:
                raise ValueError(
                    f"data.augment: {type(step).__name__} must return uint8 {shape}, got {images.dtype} {images.shape}"
                )
        return images

    def bits(self, position: int, epochs: NDArray[np.int64], indices: NDArray[np.int64]) -> Bits:
        """Return the random bits ``[N]`` of the step at ``position`` for every sample."""
        return random_bits(self.seed, Stream.AUGMENT, position, epochs, indices)
