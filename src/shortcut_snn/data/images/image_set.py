"""Data sets of images, or of recordings as frames: loaded ones, and the base classes of sets with their options."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Ge, Interval
from numpy.typing import NDArray
from torch import Tensor

from ... import components
from ..._utils.files import expanded
from ..._utils.markdown import printable
from ...components.entries import read
from ..counter_random import Stream, balanced_prefix, evenly_spaced
from ..loading import Key, SeededData, SeededDataset, hash_values
from .augmentation import Checked, Pixels, draw_bits
from .images import Images, colour_statistics

_HASHED = 32
Positive = Annotated[int, Ge(1)]


@dataclass(frozen=True)
class ImageData(SeededData):
    """A data set of images, or of recordings as frames of events, split into three parts.

    Args:
        validation: validation images; may be empty.
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
        mean = (0.0,) if self.kind == "events" else self.mean
        train = AugmentedImages(self.train, self.augment, seed, mean)
        validation = AugmentedImages(self.validation) if len(self.validation) else None
        return train, validation, AugmentedImages(self.test)


class AugmentedImages(SeededDataset):
    """Images addressed by (epoch, index), which also determine their augmentation.

    A loader asks for a whole batch, because augmenting a batch at once is many times faster. The mean colour, on the
    0..1 scale, fills uncovered pixels.
    """

    def __init__(self, images: Images, steps: Sequence[Any] = (), seed: int = 0, mean: Sequence[float] = ()) -> None:
        self.images, self.steps, self.seed = images, steps, seed
        self.fill = np.rint(np.array(mean) * 255).astype(np.uint8)

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, keys: list[Key]) -> tuple[Tensor, Tensor]:
        """Return a batch: images uint8 ``[N, C, H, W]`` (frames ``[N, T, 2, H, W]``), labels int64 ``[N]``."""
        epochs, indices = np.array(keys, np.int64).T
        if self.steps and getattr(self.steps[0], "takes_files", False):
            crops = zip(map(self.images.decode, indices), self._bits(0, epochs, indices).tolist(), strict=True)
            size = list(self.images.shape[1:])
            images = torch.stack([self.steps[0].crop(image, size, bits) for image, bits in crops])
        else:
            images = self.images.fetch(indices)
        # The frames of a recording change together, as the channels of an image do.
        augmented = self.augment(images.flatten(1, -3).numpy(), epochs, indices)
        return torch.from_numpy(augmented).view(images.shape), self.images.labels[torch.from_numpy(indices)]

    def augment(self, images: Pixels, epochs: NDArray[np.int64], indices: NDArray[np.int64]) -> Pixels:
        """Return augmented images uint8 ``[N, C, H, W]``; ``epochs`` and ``indices`` ``[N]`` identify the samples."""
        for position, step in enumerate(self.steps):
            shape = images.shape
            images = np.ascontiguousarray(step(images, self._bits(position, epochs, indices), self.fill))
            if images.dtype != np.uint8 or images.shape != shape:
                raise ValueError(
                    f"data.augment: {type(step).__name__} must return uint8 {shape}, got {images.dtype} {images.shape}"
                )
        return images

    def _bits(self, position: int, epochs: NDArray[np.int64], indices: NDArray[np.int64]) -> Any:
        # A step may be any function.
        draw = getattr(self.steps[position], "draw_bits", draw_bits)
        return draw(self.seed, position, epochs, indices)


@dataclass(frozen=True)
class Source:
    """The parts of a data set as its files hold them, before limits and the validation split.

    Attributes:
        test: None if a seeded, stratified part of the training images, 20 % in most sets, is to be the test set.
        classes: class names, by label.
        validation: None if part of the training images may be held out.
        mean: per channel on the 0..1 scale; None to compute ``mean`` and ``std`` from the training images.
        statistics_samples: number of training images to compute them from; None for all.
    """

    train: Images
    test: Images | None
    classes: list[str]
    validation: Images | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    statistics_samples: int | None = None


@dataclass(frozen=True, kw_only=True)
class ImageSet(Checked, ABC):
    """A data set of images; a subclass implements :meth:`read`.

    Args:
        validation: fraction of the training set held out, seeded and stratified; 0 for none. A validation part in the
            files takes its place.
        augment: training augmentations in order; all frames of a recording change alike. The default is the set's own.
        train_limit: number of training images to use, evenly over the classes, the first of each; the validation part
            is taken from them.
        test_limit: number of test images to use, evenly over the classes, the first of each.
        batch_size: images in a batch, per device.
        workers: loader processes, per device; 0 loads in the training process, which is fastest for sets held in
            memory. Recordings need some. Results do not depend on it.
        seed: seeds the splits only, so that runs with different seeds share their validation and test images.

    Example:
        >>> import torch
        >>> from shortcut_snn import components
        >>> from shortcut_snn.data import ArrayImages
        >>> @components.data("stripes")
        ... @dataclass(frozen=True)
        ... class Stripes(ImageSet):
        ...     side: int = 8
        ...     def read(self):
        ...         pixels = torch.zeros(100, 1, self.side, self.side, dtype=torch.uint8)
        ...         pixels[::2, :, ::2], pixels[1::2, :, :, ::2] = 255, 255
        ...         return Source(ArrayImages(pixels, torch.arange(100) % 2), None, ["rows", "columns"])
        >>> read(components.data, {"kind": "stripes", "side": 16}, "data").load().description["image_size"]
        [16, 16]
    """

    validation: Annotated[float, Interval(ge=0, lt=1)] = 0.1
    augment: Annotated[tuple[Any, ...] | None, components.augmentation] = None
    train_limit: Positive | None = None
    test_limit: Positive | None = None
    batch_size: Positive = 128
    workers: Annotated[int, Ge(0)] = 0
    seed: Annotated[int, Ge(0)] = 0

    kind: ClassVar[Literal["static", "events"]] = "static"
    default_augment: ClassVar[tuple[Any, ...]] = ()
    test_fraction: ClassVar[float] = 0.2
    """Fraction of a set without a test part that becomes the test set."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.augment is None:
            return
        # In Python too, names and mappings may stand for augmentations as in a recipe.
        steps = tuple(
            read(components.augmentation, step, f"augment[{position}]") if isinstance(step, str | Mapping) else step
            for position, step in enumerate(self.augment)
        )
        object.__setattr__(self, "augment", steps)
        for position, step in enumerate(steps):
            if not callable(step):
                raise ValueError(f"augment[{position}] must be an augmentation or the name of one, got {step!r}")
            name = type(step).__name__
            if getattr(step, "takes_files", False) and (position or getattr(self, "image_size", None) is None):
                raise ValueError(f"augment: {name} must come first, and needs a folder of images with image_size")
            if self.kind == "events" and not getattr(step, "takes_events", True):
                raise ValueError(f"augment: {name} is for images, not for frames of events")

    @property
    def augmentations(self) -> tuple[Any, ...]:
        """The training augmentations; the set's default if none were specified."""
        return self.default_augment if self.augment is None else self.augment

    @property
    def name(self) -> str:
        """The name of the set in a recipe."""
        return components.component_of(self).name

    @abstractmethod
    def read(self, *args: Any, **kwargs: Any) -> Source:
        """Read the set's files; only event sets get an argument (see :class:`.EventSet`)."""

    def load(self, time_steps: int | None = None) -> ImageData:
        """Read, check, limit and split the set.

        Args:
            time_steps: number of frames of a recording, which is the network's; images ignore it.

        Raises:
            FileNotFoundError: files are missing.
            ValueError: files are damaged, or the set cannot be trained on.
        """
        source = self._source(time_steps)
        self._check(source)
        train, test = source.train, source.test
        if test is None:
            train, test = train.hold_out(self.test_fraction, self.seed, Stream.TEST_SPLIT, source.classes)
        train, test, validation = _limited(train, self.train_limit), _limited(test, self.test_limit), source.validation
        if validation is None and self.validation:
            stream = Stream.VALIDATION_SPLIT
            train, validation = train.hold_out(self.validation, self.seed, stream, source.classes)
        mean, std = source.mean, source.std
        if mean is None or std is None:
            mean, std = colour_statistics(train, source.statistics_samples)
        classes = [printable(name) for name in source.classes]
        return ImageData(
            train, validation or train.subset([]), test, classes, mean, std, self.kind, self.augmentations,
            self.batch_size, self.workers,
        )  # fmt: skip

    def _source(self, time_steps: int | None) -> Source:
        return self.read()

    def _check(self, source: Source) -> None:
        """Raise ValueError unless the network can learn the set's classes from its parts."""
        location, count = getattr(self, "root", None) or self.name, len(source.classes)
        if count < 2:
            raise ValueError(f"{location}: at least 2 classes are needed, got {count}")
        channels = source.train.shape[0]
        for step in self.augmentations:
            if channels not in (taken := getattr(step, "takes_channels", (channels,))):
                name, numbers = type(step).__name__, " or ".join(map(str, taken))
                raise ValueError(f"augment: {name} takes images of {numbers} channels, and these have {channels}")
        ranges: dict[str, tuple[int, int]] = {}
        parts = {"training": source.train, "test": source.test, "validation": source.validation or None}
        for part, images in parts.items():
            if images is None:
                continue
            if not len(images):
                raise ValueError(f"{location}: the {part} set is empty")
            low, high = ranges[part] = int(images.labels.min()), int(images.labels.max())
            if low < 0 or high >= count:
                raise ValueError(
                    f"{location}: {part} labels must be 0 to {count - 1} for {count} classes, got "
                    f"{low if low < 0 else high}: correct the labels or class_names"
                )
        absent = np.flatnonzero(np.bincount(source.train.labels.numpy(), minlength=count) == 0)
        if len(absent):
            label = int(absent[0])
            low = min(low for low, _ in ranges.values())
            if low > 0:
                raise ValueError(f"{location}: labels begin at {low}, and must begin at 0: subtract {low} from them")
            part = max(ranges, key=lambda part: ranges[part][1])
            raise ValueError(
                f"{location}: no training image has label {label} (class {source.classes[label]!r}); the highest is "
                f"{ranges[part][1]}, in the {part} labels; labels must be 0 to {count - 1} without gaps"
            )
        if self.train_limit is not None and self.train_limit < count:
            raise ValueError(
                f"data.train_limit: must be at least 1 image for each of the {count} classes, got {self.train_limit}"
            )


@dataclass(frozen=True)
class StoredSet(ImageSet):
    """A data set in files.

    Args:
        root: the folder or file that holds the set.
    """

    root: str | None = None

    root_is: ClassVar[str]
    """Description of ``root`` for the error if it is missing."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.root:
            raise ValueError(f"root: {self.name} needs the {self.root_is}")

    @property
    def path(self) -> Path:
        """The folder or file that holds the set."""
        return expanded(str(self.root))


def _limited(images: Images, limit: int | None) -> Images:
    if limit is None or limit >= len(images):
        return images
    return images.subset(balanced_prefix(images.labels.numpy(), limit))
