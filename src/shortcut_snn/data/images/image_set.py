"""What every data set of images shares: one class a set, whose fields are its options in a recipe."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Interval

from ... import components
from ...files import expanded
from ..checked import Checked
from ..counter_random import Stream
from ..split import balanced_prefix, stratified_split
from .augmentation import AutoAugment, ResizedCrop
from .image_data import ImageData
from .images import Images
from .statistics import colour_statistics

Positive = Annotated[int, Ge(1)]
TEST_FRACTION = 0.2
"""Part that becomes the test set where a set has none."""


@dataclass(frozen=True)
class Source:
    """The parts of a data set as its files hold them, before limits and the validation split.

    ``mean`` and ``std`` are per channel on the 0..1 scale, None where they have to be computed, from
    ``statistics_samples`` images (None: all).
    """

    train: Images
    test: Images
    classes: list[str]
    validation: Images | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    statistics_samples: int | None = None


@dataclass(frozen=True, kw_only=True)
class ImageSet(Checked, ABC):
    """A data set of images; one of your own needs :meth:`read` alone.

    Args:
        validation: fraction of the training set held out, seeded and stratified; 0 for none. A set's own validation
            part is used instead where it has one.
        augment: training augmentations in the order in which they are applied; of a recording, to all frames alike. The
            default is the set's own.
        train_limit: use so many training images only, evenly over the classes, the first of each; validation comes
            out of these.
        test_limit: use so many test images only, evenly over the classes, the first of each.
        batch_size: images in a batch, per device.
        workers: loader processes, per device; 0 loads in the training process, which is fastest for sets held in
            memory; recordings want some. Results do not depend on it.
        seed: of the splits alone, so that runs of different seeds share their validation and test images.

    Raises:
        ValueError: a field is out of its range; the message begins with its name.

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
        ...         return held_out_test(ArrayImages(pixels, torch.arange(100) % 2), ["rows", "columns"], self.seed)
        >>> components.read(components.data, {"kind": "stripes", "side": 16}, "data").load().description["image_size"]
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

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.augment is None:
            return
        # From Python, names and entries may stand for augmentations as they do in a recipe.
        steps = tuple(
            components.read(components.augmentation, step, f"augment[{place}]")
            if isinstance(step, str | Mapping)
            else step
            for place, step in enumerate(self.augment)
        )
        object.__setattr__(self, "augment", steps)
        for place, step in enumerate(steps):
            if not callable(step):
                raise ValueError(f"augment[{place}] is an augmentation or the name of one, got {step!r}")
            if isinstance(step, ResizedCrop) and (place or getattr(self, "image_size", None) is None):
                raise ValueError("augment: resized_crop is for a folder's images with image_size, and comes first")
            if isinstance(step, AutoAugment) and self.kind == "events":
                raise ValueError("augment: autoaugment is for images, not for frames of events")

    @property
    def augmentations(self) -> tuple[Any, ...]:
        """The training augmentations, the set's own default filled in."""
        return self.default_augment if self.augment is None else self.augment

    @property
    def name(self) -> str:
        """What a recipe calls it."""
        return components.component_of(self).name

    @abstractmethod
    def read(self, *args: Any, **kwargs: Any) -> Source:
        """Read the set's files; nothing is given but to sets of events (see :class:`.EventSet`).

        Raises:
            FileNotFoundError: files are missing; the message says which and what to do.
            ValueError: files are damaged or of another kind.
        """

    def load(self, time_steps: int | None = None) -> ImageData:
        """Read, check, limit and split the set.

        Args:
            time_steps: the network's, which recordings of events have as many frames as; images need none.

        Raises:
            FileNotFoundError: files are missing; the message says which and what to do.
            ValueError: files are damaged, or the set cannot be trained on.
        """
        source = self._source(time_steps)
        self._check(source)
        train, test = _limited(source.train, self.train_limit), _limited(source.test, self.test_limit)
        train, validation = self._split(train, source)
        mean, std = source.mean, source.std
        if mean is None or std is None:
            mean, std = colour_statistics(train, source.statistics_samples)
        return ImageData(
            train, validation, test, source.classes, mean, std, self.kind, self.augmentations, self.batch_size,
            self.workers,
        )  # fmt: skip

    def _source(self, time_steps: int | None) -> Source:
        return self.read()

    def _check(self, source: Source) -> None:
        where, count, shape = getattr(self, "root", None) or self.name, len(source.classes), source.train.shape
        if 0 in shape:
            raise ValueError(f"{where}: images need at least 1 pixel a side, got {list(shape)}")
        parts = [("training", source.train), ("test", source.test)]
        if source.validation is not None and len(source.validation):
            parts.append(("validation", source.validation))
        for part, images in parts:
            if not len(images):
                raise ValueError(f"{where}: the {part} set is empty")
            low, high = int(images.labels.min()), int(images.labels.max())
            if low < 0 or high >= count:
                wrong = low if low < 0 else high
                raise ValueError(f"{where}: {part} labels must be 0 to {count - 1} for {count} classes, found {wrong}")
        if count < 2:
            raise ValueError(f"{where}: at least 2 classes are needed, found {count}")
        present = np.bincount(source.train.labels.numpy(), minlength=count) > 0
        if not present.all():
            absent = int(np.flatnonzero(~present)[0])
            in_test = " although the test set has it" if bool((source.test.labels == absent).any()) else ""
            raise ValueError(
                f"{where}: no training image has label {absent} (class {source.classes[absent]!r}){in_test};"
                f" labels must be 0 to {count - 1} without a gap"
            )
        if self.train_limit is not None and self.train_limit < count:
            raise ValueError(
                f"data.train_limit: at least one image for each of the {count} classes is needed,"
                f" got {self.train_limit}"
            )
        for step in self.augmentations:
            if isinstance(step, AutoAugment):
                step.check(shape[0])

    def _split(self, train: Images, source: Source) -> tuple[Images, Images]:
        if source.validation is not None:
            return train, source.validation
        if self.validation == 0:
            return train, train.subset([])
        labels = train.labels.numpy()
        kept, held = stratified_split(labels, self.validation, self.seed, Stream.VALIDATION_SPLIT, source.classes)
        return train.subset(kept), train.subset(held)


@dataclass(frozen=True)
class StoredSet(ImageSet):
    """A data set in files.

    Args:
        root: where the files lie.
    """

    root: str | None = None

    root_is: ClassVar[str]
    """What has to lie at ``root``, for the message where it is not said."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.root:
            raise ValueError(f"root: {self.name} needs the {self.root_is}")

    @property
    def path(self) -> Path:
        """The folder or file that holds the set."""
        return expanded(str(self.root))


def held_out_test(images: Images, classes: list[str], seed: int, samples: int | None = None) -> Source:
    """Make a source of a set without a test part: a seeded, stratified 20 % become one."""
    kept, held = stratified_split(images.labels.numpy(), TEST_FRACTION, seed, Stream.TEST_SPLIT, classes)
    return Source(images.subset(kept), images.subset(held), classes, statistics_samples=samples)


def _limited(images: Images, limit: int | None) -> Images:
    if limit is None or limit >= len(images):
        return images
    return images.subset(balanced_prefix(images.labels.numpy(), limit))
