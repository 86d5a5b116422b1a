"""A loaded data set of images, or of recordings as frames, with its training, validation and test part."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..._utils.markdown import printable
from ..fingerprint import evenly_spaced, hash_values
from ..loading import Key, SeededData, SeededDataset
from .augmentation import AugmentationPipeline
from .images import Images

_HASHED = 32

Batch = tuple[Tensor, Tensor]
"""Images uint8 ``[N, C, H, W]`` or frames of events uint8 ``[N, T, 2, H, W]``, and labels int64 ``[N]``."""


@dataclass(frozen=True)
class ImageData(SeededData):
    """A data set of images, or of recordings as frames of events, split into three parts.

    Args:
        train: training images.
        validation: validation images; may be empty.
        test: test images.
        classes: class names, by label.
        mean: per channel, on the 0..1 scale for images, in events for frames.
        std: standard deviation per channel, on the same scale.
        kind: "static" for images, "events" for frames.
        augment: augmentations of the training images, in order.
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
    def parts(self) -> dict[str, Images]:
        """The three parts by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    @property
    def description(self) -> dict[str, Any]:
        """Facts that networks and exported files need; see :attr:`.Data.description`."""
        channels, *size = self.train.shape
        facts = {
            "classes": self.classes, "channels": channels, "image_size": size, "mean": list(self.mean),
            "std": list(self.std), "kind": self.kind, **self.train.format(),
        }  # fmt: skip
        return facts | ({"split_sha256": hashlib.sha256(self.split.encode()).hexdigest()} if self.split else {})

    @cached_property
    def split(self) -> str:
        """One line per file with its part, label and name."""
        return "".join(
            f"{part} {label} {printable(name)}\n"
            for part, images in self.parts.items()
            for name, label in zip(images.names(), images.labels.tolist(), strict=False)
        )

    def fingerprint(self) -> str:
        """Return a hash of all labels and of a sample of the images."""
        samples = (images.fetch(evenly_spaced(len(images), _HASHED)) for images in self.parts.values() if len(images))
        return hash_values([*(images.labels for images in self.parts.values()), *samples])

    def seeded(self, seed: int) -> tuple[SeededDataset, SeededDataset | None, SeededDataset]:
        """Return the parts; the augmentation of training images depends on ``seed``."""
        # Pixels without events are 0, so that is the colour of uncovered pixels of frames.
        fill = (0.0,) if self.kind == "events" else self.mean
        train = AugmentedImages(self.train, AugmentationPipeline(self.augment, seed, fill))
        validation = AugmentedImages(self.validation) if len(self.validation) else None
        return train, validation, AugmentedImages(self.test)


class AugmentedImages(SeededDataset):
    """Images addressed by (epoch, index), which also determine their augmentation.

    A loader asks for a whole batch, because augmenting a batch at once is many times faster.
    """

    def __init__(self, images: Images, augment: AugmentationPipeline | None = None) -> None:
        self.images, self.augment = images, augment

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, keys: list[Key]) -> Batch:
        """Return a batch: images uint8 ``[N, C, H, W]`` (frames ``[N, T, 2, H, W]``), labels int64 ``[N]``."""
        epochs, indices = np.array(keys, np.int64).T
        labels = self.images.labels[torch.from_numpy(indices)]
        if self.augment is None:
            return self.images.fetch(indices), labels
        images = self.augment.fetch(self.images, epochs, indices)
        # The frames of a recording change together, as the channels of an image do.
        augmented = self.augment(images.flatten(1, -3).numpy(), epochs, indices)
        return torch.from_numpy(augmented).view(images.shape), labels
