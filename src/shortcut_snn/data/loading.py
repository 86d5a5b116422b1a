"""Loaders of uint8 batches: the same samples whatever the number of workers."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from .augment import Augment
from .config import DataConfig
from .images import Images
from .registry import ImageData
from .sampler import SeededSampler

Batch = tuple[Tensor, Tensor]
"""Images uint8 ``[N, C, H, W]`` or frames of events uint8 ``[N, T, 2, H, W]``, and labels int64 ``[N]``."""


@dataclass(frozen=True)
class Loaders:
    """One loader for each part of a data set."""

    train: DataLoader[Batch]
    validation: DataLoader[Batch]
    test: DataLoader[Batch]
    sampler: SeededSampler
    """The order of the training data."""


class AugmentedImages(Dataset[tuple[Tensor, int]]):
    """Images addressed by ``(epoch, index)`` and augmented as these two say.

    A loader asks for a whole batch at once, which is what makes it fast; one at a time gives the same samples.
    """

    def __init__(self, images: Images, augment: Augment) -> None:
        self.images, self.augment = images, augment

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int]:
        """Return one image, uint8 ``[C, H, W]`` (frames ``[T, 2, H, W]``), and its label."""
        images, labels = self.__getitems__([key])
        return images[0], int(labels[0])

    def __getitems__(self, keys: list[tuple[int, int]]) -> Batch:
        """Return a batch: images uint8 ``[N, C, H, W]`` (frames ``[N, T, 2, H, W]``), labels int64 ``[N]``."""
        epochs, indices = np.array(keys, np.int64).T
        crops = self.augment.resized_crops(epochs, indices)
        images = self.images.fetch(indices) if crops is None else self.images.fetch_cropped(indices, crops)
        if self.augment.names:
            # All frames of a recording change alike, as the channels of an image do.
            flat = self.augment(images.flatten(1, -3).numpy(), epochs, indices)
            images = torch.from_numpy(flat).view(images.shape)
        return images, self.images.labels[torch.from_numpy(indices)]


def loaders(data: ImageData, config: DataConfig, seed: int, rank: int = 0, world: int = 1) -> Loaders:
    """Make the loaders of one process.

    Args:
        data: what :func:`load` returned for ``config``.
        config: batch size, workers and augmentations.
        seed: of the order of training samples and of their augmentation.
        rank: this process among ``world``. Training samples are dealt out evenly, a few of them twice if need be;
            validation and test samples exactly once, with as many batches for every process.
        world: number of processes.

    Raises:
        ValueError: there are fewer validation or test images than processes.
    """
    # Where there are no events, there are none, whatever the augmentation.
    augment = Augment(config.augmentations, seed, (0.0,) if data.kind == "events" else data.mean)
    sampler = SeededSampler(len(data.train), seed, shuffle=True, rank=rank, world=world)
    # Batch normalisation cannot learn from a single sample.
    lone = config.batch_size > 1 and len(sampler) > 1 and len(sampler) % config.batch_size == 1
    train = _loader(data.train, augment, sampler, config.batch_size, lone, config.workers)
    validation, test = (_evaluation(part, config, rank, world, data) for part in (data.validation, data.test))
    return Loaders(train, validation, test, sampler)


def _evaluation(images: Images, config: DataConfig, rank: int, world: int, data: ImageData) -> DataLoader[Batch]:
    sampler = SeededSampler(len(images), 0, shuffle=False, rank=rank, world=world, even=False)
    size = config.batch_size
    shortest, more = divmod(len(images), world)
    if more and not shortest:
        raise ValueError(f"{len(images)} images to evaluate are too few for {world} processes")
    # Some processes have one sample more. It must not make a batch of its own: processes in step would wait for
    # the others' batch for ever.
    while more and shortest % size == 0:
        size += 1
    return _loader(images, Augment((), 0, data.mean), sampler, size, False, config.workers)


def _loader(
    images: Images, augment: Augment, sampler: SeededSampler, size: int, drop_last: bool, workers: int
) -> DataLoader[Batch]:
    return DataLoader(
        AugmentedImages(images, augment),  # type: ignore[arg-type]
        batch_size=size,
        sampler=sampler,
        drop_last=drop_last,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        collate_fn=_as_it_is,
        # A loader draws a number on every iteration, even without workers: not from the global generator.
        generator=torch.Generator(),
    )


def _as_it_is(batch: Any) -> Any:
    return batch
