"""All recordings in one numpy archive: the events of one after those of the other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from ... import components
from ..errors import one_line
from ..images import Crop, Source
from .event_images import EventImages
from .event_set import EventSet
from .folder import Side
from .recording import Events, FileState, Recording, RecordingError, Sensor, checked

_EVENTS = ("x", "y", "p", "t")


@components.data("nmnist_npz")
@dataclass(frozen=True)
class RecordingArchive(EventSet):
    """All recordings in one numpy archive.

    It has ``x``, ``y``, ``p`` and ``t`` (microseconds) of all events, ``offsets`` (where each recording begins, and the
    end: one more than recordings) and ``labels``, all integers; and ``is_test``, true for test recordings, or else a
    seeded 20 % become the test set.

    Args:
        root: the file.
        sensor: height and width of the camera in pixels.

    Example:
        >>> RecordingArchive("nmnist.npz", size=17, folds=5, fold=2).sensor
        (34, 34)
    """

    sensor: tuple[Side, Side] = (34, 34)

    default_augment: ClassVar = (Crop(),)
    root_is: ClassVar = "path of a file with x, y, p, t, offsets and labels"

    def read(self, time_steps: int) -> Source:
        """List the recordings.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is not such an archive, is damaged, or its arrays do not fit together.
        """
        path = self.path
        if not path.is_file():
            raise FileNotFoundError(f"data.root: there is no file {path}")
        archive = Archive(FileState.of(path))
        labels, is_test = archive.index()
        recordings = [ArchivedRecording(f"{number:05d}", archive, number) for number in range(len(labels))]
        images = EventImages(recordings, torch.from_numpy(labels), self.maker(self.sensor, time_steps))
        names = [str(label) for label in range(int(labels.max(initial=-1)) + 1)]
        if is_test is None:
            return self.parts(images, None, names)
        train, test = (images.subset(np.flatnonzero(is_test == part)) for part in (False, True))
        return self.parts(train, test, names)


class Archive:
    """The file, whose events are read when the first of them is asked for."""

    def __init__(self, state: FileState) -> None:
        self.state = state

    def index(self) -> tuple[NDArray[np.int64], NDArray[np.bool_] | None]:
        """Return the labels ``[n]``, and which recordings are for testing ``[n]`` where it says so.

        Raises:
            RecordingError: the file is damaged or its arrays do not fit together.
        """
        arrays = self._load(("labels", "offsets"), ("is_test",))
        labels, offsets, is_test = arrays["labels"], arrays["offsets"], arrays.get("is_test")
        where = self.state.path
        _check_integers(arrays, where)
        if len(offsets) != len(labels) + 1 or (is_test is not None and len(is_test) != len(labels)):
            raise RecordingError(
                f"{where}: {len(labels)} labels need {len(labels) + 1} offsets and, if any, as many is_test"
            )
        if labels.min(initial=0) < 0 or labels.max(initial=0) > len(labels):
            raise RecordingError(f"{where}: labels must be 0 to K - 1 for K classes, found {labels.max()}")
        return labels.astype(np.int64), None if is_test is None else is_test.astype(np.bool_)

    @cached_property
    def _events(self) -> tuple[NDArray[np.int64], dict[str, NDArray[Any]]]:
        arrays = self._load((*_EVENTS, "offsets"), ())
        _check_integers(arrays, self.state.path)
        offsets = arrays.pop("offsets").astype(np.int64)
        counts = {len(array) for array in arrays.values()}
        if len(counts) > 1 or offsets[0] != 0 or offsets[-1] not in counts or (np.diff(offsets) < 0).any():
            raise RecordingError(
                f"{self.state.path}: offsets must rise from 0 to the number of events, the same in x, y, p and t"
            )
        return offsets, arrays

    def events(self, number: int) -> Events:
        """Return one recording's events as they are in the file."""
        offsets, arrays = self._events
        part = slice(offsets[number], offsets[number + 1])
        x, y, p, t = (arrays[name][part] for name in _EVENTS)
        return Events.of(t, x, y, p > 0)

    def _load(self, needed: Sequence[str], welcome: Sequence[str]) -> dict[str, NDArray[Any]]:
        try:
            with np.load(self.state.path, allow_pickle=False) as archive:
                missing = [name for name in needed if name not in archive]
                arrays = {name: archive[name] for name in (*needed, *welcome) if name in archive}
        # What numpy and zipfile raise for a damaged file depends on where the damage is.
        except Exception as error:
            raise RecordingError(
                f"{self.state.path} is not a readable .npz archive of plain arrays: {one_line(error)}"
            ) from error
        self.state.check()
        if missing:
            raise RecordingError(
                f"{self.state.path} lacks {', '.join(missing)}; an archive of events needs"
                f" {', '.join((*_EVENTS, 'offsets', 'labels'))}"
            )
        return arrays

    def __getstate__(self) -> dict[str, Any]:
        # A worker process reads the events itself, if it needs any.
        return {"state": self.state}


def _check_integers(arrays: Mapping[str, NDArray[Any]], where: str) -> None:
    for name, array in arrays.items():
        if array.ndim != 1 or array.dtype.kind not in "iub":
            raise RecordingError(f"{where}: {name} must be integers [n], got {array.dtype} {list(array.shape)}")


@dataclass(frozen=True)
class ArchivedRecording(Recording):
    """One recording of an archive."""

    name: str
    archive: Archive
    number: int

    def identity(self) -> tuple[str | int, ...]:
        """Return the state of the archive and the place in it."""
        return *self.archive.state.identity(), self.number

    def read(self, sensor: Sensor) -> Events:
        """Return its events."""
        return checked(
            self.archive.events(self.number), sensor, f"recording {self.number} of {self.archive.state.path}"
        )
