"""Class folders of recordings: a user's own, CIFAR10-DVS's and N-MNIST's."""

import os
from collections.abc import Collection
from pathlib import Path

import torch

from ..class_folders import classes_and_parts, labelled_files
from ..config import DataConfig
from ..source import Source
from .formats.files import EXTENSIONS, FileRecording, check_libraries
from .images import EventImages, FrameMaker
from .parts import data_root, event_source


def read_events(config: DataConfig, time_steps: int) -> Source:
    """Read the class folders below ``config.root``, or below its train/ and test/ (and val/), as for images.

    Raises:
        FileNotFoundError: a folder is missing or holds no recordings.
        ValueError: the parts do not have the same classes, or the sensor is not given.
    """
    root = data_root(config)
    if config.events.sensor is None:
        raise ValueError("data.events.sensor: the camera's height and width are needed, as in [260, 346]")
    names, parts = classes_and_parts(root)
    maker = FrameMaker.of(config.events, config.events.sensor, time_steps)
    if not parts:
        return event_source(read_part(root, root, names, EXTENSIONS, maker), None, names, config)
    train, test, *rest = (read_part(root, root / part, names, EXTENSIONS, maker) for part in parts)
    return event_source(train, test, names, config, rest[0] if rest else None)


def read_part(
    root: Path, folder: Path, names: list[str], extensions: Collection[str], maker: FrameMaker
) -> EventImages:
    """List the recordings below the class folders of ``folder``, sorted by name, and name them after ``root``.

    Raises:
        FileNotFoundError: a class folder has none.
        ValueError: a recording is there in two formats, or the library that reads one is not installed.
    """
    paths, labels = labelled_files(folder, names, extensions, "recordings")
    check_libraries({os.path.splitext(path)[1].lower() for path in paths})
    _check_single(paths)
    return EventImages([FileRecording.of(path, root) for path in paths], torch.tensor(labels), maker)


def _check_single(paths: list[str]) -> None:
    """Refuse a recording in two formats: it could end up in the training set and in the test set."""
    seen: dict[str, str] = {}
    for path in paths:
        other = seen.setdefault(os.path.splitext(path)[0], path)
        if other is not path:
            raise ValueError(f"{other} and {path} seem to be the same recording; keep one of them")
