"""Labelled images, or frames of events: what every data set becomes."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from ..fingerprint import MOST_SAMPLES, Fingerprint, of_values, spread
from .augmentation import Box

Indices = Sequence[int] | np.ndarray
"""Positions in a data set."""


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
        """Return the images at ``indices``, a fresh uint8 ``[N, C, H, W]``."""

    def fetch_cropped(
        self, indices: Indices, bits: NDArray[np.uint64], box: Callable[[int, int, np.uint64], Box]
    ) -> Tensor:
        """Return a part of each image at ``indices``, ``box(height, width, bits)``, in the size of all.

        Only images in files, which may have more pixels than ``shape``, have this.
        """
        raise NotImplementedError

    @abstractmethod
    def subset(self, indices: Indices) -> Self:
        """Return the images at ``indices``, in that order, as a set of the same kind."""

    def names(self) -> Sequence[str]:
        """Return what each is called, where the record of the split tells; else nothing."""
        return ()

    def made_with(self) -> dict[str, Any]:
        """Return what, besides the shape, says how a file becomes a sample of these; entries of a description."""
        return {}

    def fingerprint(self) -> Fingerprint:
        """Return by what one can tell whether these are the same images later on; here by a sample of them."""
        return of_values([self.labels, self.fetch(spread(len(self), MOST_SAMPLES)) if len(self) else []])

    def storage(self) -> str:
        """Say in a line what is kept on disk to read these faster, nothing if nothing is."""
        return ""

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return one image, uint8 ``[C, H, W]``, and its label."""
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
            raise ValueError(f"{len(images)} images need as many labels, got {list(labels.shape)}")
        self.images = images.contiguous()
        self.labels = labels.to(torch.int64)
        self.shape = (images.shape[1], images.shape[2], images.shape[3])

    def fetch(self, indices: Indices) -> Tensor:
        """Return the images at ``indices``, a fresh uint8 ``[N, C, H, W]``."""
        return self.images.index_select(0, torch.as_tensor(indices, dtype=torch.int64))

    def fingerprint(self) -> Fingerprint:
        """Return by what one can tell whether these are the same images later on: by all of them."""
        return of_values([self.labels, self.images])

    def subset(self, indices: Indices) -> Self:
        """Return a copy of the images at ``indices``, so that the rest can be freed."""
        return type(self)(self.fetch(indices), self.labels[torch.as_tensor(indices, dtype=torch.int64)])
