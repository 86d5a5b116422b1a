"""From a configuration to a data set with its three parts."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Literal

import numpy as np

from .config import DataConfig
from .counter_random import Stream
from .images import Images
from .source import Source
from .split import balanced_prefix, stratified_split
from .statistics import colour_statistics

# Where each set's reader lives; only the one asked for is imported.
_READERS = {
    "digits": "digits.read_digits",
    "cifar10": "cifar.read_cifar",
    "cifar100": "cifar.read_cifar",
    "folder": "folder.read_folder",
    "npz": "npz.read_npz",
}
# Those of events make frames, so they have to know how many.
_EVENT_READERS = {
    "cifar10dvs": "events.cifar10dvs.read_cifar10dvs",
    "dvsgesture": "events.dvsgesture.read_dvsgesture",
    "nmnist": "events.nmnist.read_nmnist",
    "nmnist_npz": "events.npz.read_nmnist_npz",
    "events": "events.folder.read_events",
}


@dataclass(frozen=True)
class ImageData:
    """A data set of images, or of recordings as frames of events, split.

    ``image_size`` is (H, W) in pixels; ``mean`` and ``std`` are per channel, on the 0..1 scale for images, in events
    for frames of these. ``validation`` may be empty. ``split`` says which recordings are where, a line for each; empty
    for images.
    """

    train: Images
    validation: Images
    test: Images
    class_names: list[str]
    channels: int
    image_size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    kind: Literal["static", "events"] = "static"
    split: str = ""

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)


def load(config: DataConfig, time_steps: int | None = None) -> ImageData:
    """Read, check, limit and split the data set that ``config`` names.

    Args:
        config: what to read.
        time_steps: the network's, which recordings of events have as many frames as; images need none.

    Raises:
        FileNotFoundError: files are missing; the message says which and what to do.
        ValueError: files are damaged, or the set cannot be trained on.
    """
    source = _read(config, time_steps)
    _check(source, config.root or config.name)
    if config.train_limit is not None and config.train_limit < len(source.class_names):
        raise ValueError(
            f"data.train_limit: at least one image for each of the {len(source.class_names)} classes is needed,"
            f" got {config.train_limit}"
        )
    train, test = _limited(source.train, config.train_limit), _limited(source.test, config.test_limit)
    train, validation = _split(train, source, config)
    if source.mean is None or source.std is None:
        mean, std = colour_statistics(train, source.statistics_samples)
    else:
        mean, std = source.mean, source.std
    channels, height, width = train.shape
    if "autoaugment" in config.augmentations and channels not in (1, 3):
        raise ValueError(f"data.augment: autoaugment is for images of 1 or 3 channels, these have {channels}")
    parts, size = (train, validation, test), (height, width)
    if not config.is_events:
        return ImageData(*parts, source.class_names, channels, size, mean, std)
    from .events.split_record import split_text

    return ImageData(*parts, source.class_names, channels, size, mean, std, "events", split_text(*parts))


def _read(config: DataConfig, time_steps: int | None) -> Source:
    path = (_EVENT_READERS if config.is_events else _READERS)[config.name]
    module, function = path.rsplit(".", 1)
    read: Callable[..., Source] = getattr(import_module(f".{module}", __package__), function)
    if not config.is_events:
        return read(config)
    if time_steps is None or time_steps < 1:
        raise ValueError(f"data.name={config.name}: recordings need a number of frames of at least 1, got {time_steps}")
    return read(config, time_steps)


def _check(source: Source, where: str) -> None:
    count = len(source.class_names)
    if 0 in source.train.shape:
        raise ValueError(f"{where}: images need at least 1 pixel a side, got {list(source.train.shape)}")
    for part, images in (("training", source.train), ("test", source.test)):
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
            f"{where}: no training image has label {absent} (class {source.class_names[absent]!r}){in_test};"
            f" labels must be 0 to {count - 1} without a gap"
        )


def _limited(images: Images, limit: int | None) -> Images:
    if limit is None or limit >= len(images):
        return images
    return images.subset(balanced_prefix(images.labels.numpy(), limit))


def _split(train: Images, source: Source, config: DataConfig) -> tuple[Images, Images]:
    if source.validation is not None:
        return train, source.validation
    if config.validation == 0:
        return train, train.subset([])
    labels = train.labels.numpy()
    kept, held = stratified_split(labels, config.validation, config.seed, Stream.VALIDATION_SPLIT, source.class_names)
    return train.subset(kept), train.subset(held)
