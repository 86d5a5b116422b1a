"""Spoken digits and words as spikes of 700 cochlear channels: SHD and SSC, in the authors' HDF5 files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ... import components
from ..images.image_set import Source
from ..images.images import Indices
from ..reading import DataFileError, one_line, require
from .event_images import EventImages, FrameMaker
from .event_set import PublicEventSet, RemoteArchive
from .recording import Events, FileState, Recording, Sensor

COCHLEAR_CHANNELS = 700
SENSOR = (1, COCHLEAR_CHANNELS)
_FILES = "https://zenkelab.org/datasets"


class Words(EventImages):
    """Spoken words with integer labels; an item is ``(uint8 [T, 700, 1, 1], int)``.

    A cochlear channel is a channel and not a column, so that a network which averages over space tells them apart.
    """

    def __init__(self, recordings: Sequence[Recording], labels: Tensor, maker: FrameMaker) -> None:
        super().__init__(recordings, labels, maker)
        self.shape = (COCHLEAR_CHANNELS, 1, 1)

    def fetch(self, indices: Indices) -> Tensor:
        """Return the words at ``indices`` as a new tensor, uint8 ``[N, T, 700, 1, 1]``."""
        return channel_frames(super().fetch(indices))


def channel_frames(frames: Tensor) -> Tensor:
    """Return frames ``[N, T, 2, 1, 700]`` as ``[N, T, 700, 1, 1]``, with the events of both polarities."""
    return frames.sum(2, dtype=torch.int16).clamp(max=255).to(torch.uint8).mT.unsqueeze(-1)


@dataclass(frozen=True)
class _Heidelberg(PublicEventSet):
    """A set of spoken words; its ``content`` names the files of training, test and perhaps validation."""

    root_is: ClassVar = "folder that holds (or, with data.download=true, will hold) its .h5 files"

    def read(self, time_steps: int) -> Source:
        """List the recordings; see :meth:`.EventSet.read`."""
        require(".h5", "h5py")
        base, maker = self.find(), self.maker(SENSOR, time_steps)
        parts: list[Any] = []
        for name in self.content:
            labels, keys = _read(base / name, ("labels", "extra/keys"), ...)
            file = FileState.of(base / name)
            recordings = [Recording(f"{name}#{i:06d}", file, read_spikes, (i,)) for i in range(len(labels))]
            parts.append(Words(recordings, torch.from_numpy(labels.astype(np.int64)), maker))
        train, test, validation = [*parts, None][:3]
        return Source(train, test, [key.decode() for key in keys], validation)


@components.data("shd")
@dataclass(frozen=True)
class SHD(_Heidelberg):
    """SHD: 8,156 spoken digits for training and 2,264 for testing, 20 classes, two speakers only in the test set.

    Cramer et al., "The Heidelberg Spiking Data Sets for the Systematic Evaluation of Spiking Neural Networks", 2020. A
    frame has 700 channels of 1x1 pixel.

    Args:
        root: the folder that holds its .h5 files, or SHD with these, or will with download.

    Example:
        >>> SHD("data", validation=0.1).content
        ('shd_train.h5', 'shd_test.h5')
    """

    folder: ClassVar = "SHD"
    content: ClassVar = ("shd_train.h5", "shd_test.h5")
    archives: ClassVar = (
        RemoteArchive(f"{_FILES}/shd_train.h5.zip", "shd_train.h5.zip", "f3252aeb598ac776c1b526422d90eecb"),
        RemoteArchive(f"{_FILES}/shd_test.h5.zip", "shd_test.h5.zip", "1503a5064faa34311c398fb0a1ed0a6f"),
    )


@components.data("ssc")
@dataclass(frozen=True)
class SSC(_Heidelberg):
    """SSC: 75,466 spoken words for training, 9,981 for validation and 20,382 for testing, 35 classes.

    Its source is Google's Speech Commands; see :class:`SHD`.

    Args:
        root: the folder that holds its .h5 files, or SSC with these, or will with download.

    Example:
        >>> SSC("data", size=1).folder
        'SSC'
    """

    folder: ClassVar = "SSC"
    content: ClassVar = ("ssc_train.h5", "ssc_test.h5", "ssc_valid.h5")
    archives: ClassVar = (
        RemoteArchive(f"{_FILES}/ssc_train.h5.zip", "ssc_train.h5.zip", "d102be95e7144fcc0553d1f45ba94170"),
        RemoteArchive(f"{_FILES}/ssc_test.h5.zip", "ssc_test.h5.zip", "a35ff1e9cffdd02a20eb850c17c37748"),
        RemoteArchive(f"{_FILES}/ssc_valid.h5.zip", "ssc_valid.h5.zip", "b4eee3516a4a90dd0c71a6ac23a8ae43"),
    )


def read_spikes(path: Path, sensor: Sensor, number: int) -> Events:
    """Return the spikes of a word; their times are in seconds, with 16 bits."""
    times, units = _read(path, ("spikes/times", "spikes/units"), number)
    order = np.argsort(times, kind="stable")
    t, x = np.rint(times[order].astype(np.float64) * 1e6), units[order]
    return Events.of(t, x, np.zeros_like(x), np.ones_like(x))


def _read(path: Path, names: tuple[str, str], part: Any) -> tuple[Any, Any]:
    """Return one part of each of two arrays in a file."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            first, second = (file[name][part] for name in names)
    except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise DataFileError(f"{path} is cut short or not a file of SHD or SSC: {one_line(error)}") from error
    return first, second
