"""Images, or frames of events, in their three parts."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..counter_random import Stream, permutation
from ..data import SAMPLE_SEED, Data, Loaders
from ..fingerprint import Fingerprint, joined
from ..loading import check_workers, seeded_loaders
from .augmentation import AugmentationPipeline, ResizedCrop
from .images import Images

Batch = tuple[Tensor, Tensor]
"""Images uint8 ``[N, C, H, W]`` or frames of events uint8 ``[N, T, 2, H, W]``, and labels int64 ``[N]``."""


@dataclass(frozen=True)
class ImageData(Data):
    """A data set of images, or of recordings as frames of events, split.

    Args:
        train: training images.
        validation: may be empty.
        test: test images.
        classes: their names, by label.
        mean: per channel, on the 0..1 scale for images, in events for frames of these.
        std: likewise.
        kind: "static" for images, "events" for frames.
        augment: augmentations of training images, in their order.
        batch_size: images in a batch, per process.
        workers: loader processes, per process.

    Example:
        >>> from shortcut_snn.data import Digits
        >>> images, labels = next(iter(Digits(batch_size=50).load().loaders(seed=0).train))
        >>> images.shape, images.dtype, labels.shape
        (torch.Size([50, 1, 8, 8]), torch.uint8, torch.Size([50]))
    """

    train: Images
    validation: Images
    test: Images
    classes: list[str]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    kind: Literal["static", "events"] = "static"
    augment: tuple[Any, ...] = ()
    batch_size: int = 128
    workers: int = 0

    @property
    def description(self) -> dict[str, Any]:
        """What networks and files have to know, as JSON can say it."""
        channels, *size = self.train.shape
        about = {
            "classes": self.classes, "channels": channels, "image_size": size, "mean": list(self.mean),
            "std": list(self.std), "kind": self.kind, **self.train.made_with(),
        }  # fmt: skip
        return about | ({"split_sha256": hashlib.sha256(self.split.encode()).hexdigest()} if self.split else {})

    @cached_property
    def split(self) -> str:
        """Which files are where: part, label and name, a line for each in the order of the parts."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return "".join(
            # A name that is not of UTF-8 is as the system gives it, and has bytes that no text file takes.
            f"{part} {label} {name.encode('utf-8', 'backslashreplace').decode()}\n"
            for part, images in parts.items()
            for name, label in zip(images.names(), images.labels.tolist(), strict=False)
        )

    def fingerprint(self) -> Fingerprint:
        """Return by what one can tell whether these are the same images later on."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return joined({part: images.fingerprint() for part, images in parts.items()})

    def loaders(self, seed: int, rank: int = 0, world: int = 1) -> Loaders:
        """Make the loaders of one process; see :meth:`.Data.loaders`."""
        frames = self.train.fetch([0]) if self.workers and len(self.train) else None
        check_workers(self.workers, 0 if frames is None else self.batch_size * frames.numel())
        # Where there are no events, there are none, whatever the augmentation.
        augment = AugmentationPipeline(self.augment, seed, (0.0,) if self.kind == "events" else self.mean)
        train, *others = (
            AugmentedImages(part, how)
            for part, how in ((self.train, augment), (self.validation, PLAIN), (self.test, PLAIN))
        )
        validation = others[0] if len(self.validation) else None
        return seeded_loaders(
            train, validation, others[1], self.batch_size, self.workers, seed, rank, world, as_it_is
        )  # fmt: skip

    def sample(self, count: int) -> Batch:
        """Return a batch of ``count`` test images (or all), the same ones in every run, chosen evenly at random."""
        chosen = permutation(len(self.test), SAMPLE_SEED, Stream.SAMPLE)[:count]
        return self.test.fetch(chosen), self.test.labels[torch.from_numpy(chosen)]

    def storage(self) -> str:
        """Say in a line what is kept on disk to read these faster, nothing if nothing is."""
        return self.train.storage()


class AugmentedImages(Dataset[tuple[Tensor, int]]):
    """Images addressed by ``(epoch, index)`` and augmented as these two say.

    A loader asks for a whole batch at once, which is what makes it fast; one at a time gives the same samples.
    """

    def __init__(self, images: Images, augment: AugmentationPipeline) -> None:
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
        steps = self.augment.steps
        if steps and isinstance(steps[0], ResizedCrop):
            images = self.images.fetch_cropped(indices, self.augment.bits(0, epochs, indices), steps[0].box)
        else:
            images = self.images.fetch(indices)
        if steps:
            # All frames of a recording change alike, as the channels of an image do.
            flat = self.augment(images.flatten(1, -3).numpy(), epochs, indices)
            images = torch.from_numpy(flat).view(images.shape)
        return images, self.images.labels[torch.from_numpy(indices)]


PLAIN = AugmentationPipeline((), 0, (0.0,))


def as_it_is(batch: Any) -> Any:
    """Take a batch that is one already."""
    return batch
