"""The base class of labelled images or frames, images held in memory, and the statistics of their channels."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..counter_random import Stream, evenly_spaced, stratified_split

Indices = Sequence[int] | np.ndarray


class Images(Dataset[tuple[Tensor, int]]):
    """Images of one size with integer labels; an item is ``(uint8 [C, H, W], int)``.

    Attributes:
        labels: int64 ``[n]``.
        shape: ``(C, H, W)`` of every image.
    """

    labels: Tensor
    shape: tuple[int, int, int]

    @abstractmethod
    def fetch(self, indices: Indices) -> Tensor:
        """Return the images at ``indices`` as a new tensor, uint8 ``[N, C, H, W]``."""

    def decode(self, index: int) -> Tensor:
        """Return one image in the size of its file; only sets of image files implement this."""
        raise NotImplementedError

    @abstractmethod
    def subset(self, indices: Indices) -> Self:
        """Return the images at ``indices``, in that order, as a set of the same kind."""

    def hold_out(self, fraction: float, seed: int, stream: Stream, classes: list[str]) -> tuple[Self, Self]:
        """Split the images into those kept and a seeded, stratified fraction of every class."""
        kept, held_out = stratified_split(self.labels.numpy(), fraction, seed, stream, classes)
        return self.subset(kept), self.subset(held_out)

    def names(self) -> Sequence[str]:
        """Return the name of each image for the record of the split; empty if images have no names."""
        return ()

    def format(self) -> dict[str, Any]:
        """Return how a file becomes an image, besides the shape, as entries of a description."""
        return {}

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        return self.fetch([index % len(self)])[0], int(self.labels[index])


class ArrayImages(Images):
    """Images held in memory, as one uint8 tensor ``[n, C, H, W]`` with int64 labels ``[n]``.

    Example:
        >>> images = ArrayImages(torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 0, 1]))
        >>> len(images.subset([1, 3])), images.shape
        (2, (1, 8, 8))
    """

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        if images.dtype != torch.uint8 or images.ndim != 4:
            raise ValueError(f"images must be uint8 [n, C, H, W], got {images.dtype} {list(images.shape)}")
        if labels.shape != images.shape[:1]:
            raise ValueError(f"labels must be [{len(images)}] for {len(images)} images, got {list(labels.shape)}")
        self.images = images.contiguous()
        self.labels = labels.to(torch.int64)
        self.shape = (images.shape[1], images.shape[2], images.shape[3])

    def fetch(self, indices: Indices) -> Tensor:
        """Return the images at ``indices`` as a new tensor, uint8 ``[N, C, H, W]``."""
        return self.images.index_select(0, torch.as_tensor(indices, dtype=torch.int64))

    def subset(self, indices: Indices) -> Self:
        """Return a copy of the images at ``indices``, so that the others can be freed."""
        return type(self)(self.fetch(indices), self.labels[torch.as_tensor(indices, dtype=torch.int64)])


def colour_statistics(images: Images, samples: int | None = None) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return each channel's mean and standard deviation on the 0..1 scale, from all images or a sample of them."""
    chosen = evenly_spaced(len(images), len(images) if samples is None else samples)
    counts = torch.zeros(images.shape[0], 256, dtype=torch.int64)
    for start in range(0, len(chosen), 256):
        for channel, values in enumerate(images.fetch(chosen[start : start + 256]).unbind(1)):
            counts[channel] += torch.bincount(values.flatten(), minlength=256)
    mean, std = zip(*(_moments(channel.tolist()) for channel in counts), strict=True)
    return mean, std


def _moments(counts: list[int]) -> tuple[float, float]:
    """Return mean and standard deviation from a histogram; integer sums give the same result on every machine."""
    n = sum(counts)
    total = sum(count * level for level, count in enumerate(counts))
    squares = sum(count * level**2 for level, count in enumerate(counts))
    std = math.sqrt(n * squares - total**2) / (255 * n)
    # A channel of one colour is centred, not scaled.
    return total / (255 * n), std or 1.0
