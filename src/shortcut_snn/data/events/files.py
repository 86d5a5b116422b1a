"""Recordings in the user's files: class folders, or one numpy archive that concatenates their events."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from annotated_types import Interval
from numpy.typing import NDArray

from ... import components
from ..images.augmentation import Crop
from ..images.image_set import Source
from ..reading import DataFileError, classes_and_parts, missing_root, read_npz
from .event_images import EventImages
from .event_set import EventSet, read_part
from .formats import EXTENSIONS
from .recording import Events, FileState, Recording, Sensor, brightened

Side = Annotated[int, Interval(ge=1, le=8192)]


@components.data("events")
@dataclass(frozen=True)
class EventFolder(EventSet):
    """Class folders of recordings: .aedat, .aedat4, .bin, .dat, .npy and .raw.

    Args:
        root: a folder with train/ and test/ (and val/), each of class folders; or one of class folders, as for images.
        sensor: height and width of the camera in pixels, because most files do not contain them.

    Example:
        >>> EventFolder("gestures", sensor=(260, 346), size=65, augment=("flip", "roll"), cache="off").sensor
        (260, 346)
    """

    sensor: tuple[Side, Side] | None = None

    root_is: ClassVar = "folder with train/ and test/ class folders, or with class folders alone"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sensor is None:
            raise ValueError("sensor: the camera's height and width are needed, as in [260, 346]")

    def read(self, time_steps: int) -> Source:
        """List the recordings; see :meth:`.EventSet.read`."""
        assert self.sensor is not None
        root, maker = self.path, self.maker(self.sensor, time_steps)
        classes, parts = classes_and_parts(root)
        train, *evaluation = (read_part(root, root / part, classes, EXTENSIONS, maker) for part in parts)
        test, validation = [*evaluation, None, None][:2]
        return Source(train, test, classes, validation)


@components.data("events_npz")
@dataclass(frozen=True)
class RecordingArchive(EventSet):
    """All recordings in one numpy archive.

    It has ``x``, ``y``, ``p`` and ``t`` (microseconds) of all events, ``offsets`` (``[n + 1]``: the first event of each
    recording, and the end) and ``labels`` (``[n]``), all integers. ``is_test`` (``[n]``) is true for test recordings;
    without it, a seeded 20 % become the test set.

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
        """List the recordings."""
        path = self.path
        if not path.is_file():
            raise missing_root(path, "file")
        file = FileState.of(path)
        arrays = _integers(file.path, ("labels", "offsets"), ("is_test",))
        labels, is_test, count = arrays["labels"].astype(np.int64), arrays.get("is_test"), len(arrays["labels"])
        if len(arrays["offsets"]) != count + 1 or (is_test is not None and len(is_test) != count):
            raise DataFileError(
                f"{file.path}: {count} labels need {count + 1} offsets and, if there is one, is_test [{count}]"
            )
        if labels.max(initial=0) > count:
            raise DataFileError(f"{file.path}: labels must be 0 to K - 1 for K classes, got {labels.max()}")
        events = ArchivedEvents(file.path)
        recordings = [Recording(f"{i:05d}", file, events.read, (i,)) for i in range(count)]
        images = EventImages(recordings, torch.from_numpy(labels), self.maker(self.sensor, time_steps))
        classes = [str(label) for label in range(int(labels.max(initial=-1)) + 1)]
        if is_test is None:
            return Source(images, None, classes)
        tests = is_test.astype(np.bool_)
        return Source(images.subset(np.flatnonzero(~tests)), images.subset(np.flatnonzero(tests)), classes)


def _integers(path: str, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, NDArray[Any]]:
    arrays = read_npz(path, required, optional)
    for name, array in arrays.items():
        if array.ndim != 1 or array.dtype.kind not in "iub":
            raise DataFileError(f"{path}: {name} must be integers [n], got {array.dtype} {list(array.shape)}")
    return arrays


class ArchivedEvents:
    """The events of an archive, which are loaded when the first recording is read."""

    def __init__(self, path: str) -> None:
        self.path = path

    def read(self, path: Path, sensor: Sensor, number: int) -> Events:
        """Return the events of one recording."""
        offsets, arrays = self._arrays
        x, y, p, t = (arrays[name][offsets[number] : offsets[number + 1]] for name in "xypt")
        return Events.of(t, x, y, brightened(p, path))

    @cached_property
    def _arrays(self) -> tuple[NDArray[np.int64], dict[str, NDArray[Any]]]:
        arrays = _integers(self.path, ("x", "y", "p", "t", "offsets"))
        offsets = arrays.pop("offsets").astype(np.int64)
        counts = {len(array) for array in arrays.values()}
        if len(counts) > 1 or offsets[0] != 0 or offsets[-1] not in counts or (np.diff(offsets) < 0).any():
            raise DataFileError(
                f"{self.path}: offsets must rise from 0 to the number of events, the same in x, y, p and t"
            )
        return offsets, arrays

    def __getstate__(self) -> dict[str, Any]:
        # A worker process loads the events itself.
        return {"path": self.path}
