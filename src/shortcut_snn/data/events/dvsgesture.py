"""DVS128 Gesture: its authors' recordings of many gestures each (``.aedat``), or arrays of one each (``.npy``)."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from ... import components
from ..download import Archive
from ..errors import one_line
from ..images import Roll, Source
from .event_images import EventImages, FrameMaker
from .event_set import PublicEventSet, first_with
from .formats.aedat import read_aedat3
from .formats.files import FileRecording
from .recording import Events, FileState, Recording, RecordingError, Sensor, checked

SENSOR = (128, 128)
CLASSES = [
    "hand clapping",
    "right hand wave",
    "left hand wave",
    "right arm clockwise",
    "right arm counter-clockwise",
    "left arm clockwise",
    "left arm counter-clockwise",
    "arm roll",
    "air drums",
    "air guitar",
    "other gestures",
]
_OFFICIAL = ("trials_to_train.txt", "trials_to_test.txt")
_HEADING = ["class", "startTime_usec", "endTime_usec"]


@components.data("dvsgesture")
@dataclass(frozen=True)
class DVSGesture(PublicEventSet):
    """DVS128 Gesture: 11 gestures of 29 people, 128x128 pixels; its split is by people.

    Its authors' layout has ``trials_to_train.txt`` and ``trials_to_test.txt``, which name files like
    ``user01_led.aedat``, whose gestures ``user01_led_labels.csv`` lists. What is downloaded has ``ibmGestureTrain`` and
    ``ibmGestureTest`` with a folder for each of these files and in it an array for each gesture, named after its label.

    Args:
        root: the folder that holds either, or DvsGesture or DVSGesture with these, or will with download.

    Example:
        >>> DVSGesture("data", size=32, slicing="count").augmentations
        (Roll(pixels=5),)
    """

    # A mirrored wave of the right hand is one of the left.
    default_augment: ClassVar = (Roll(),)
    root_is: ClassVar = "folder that holds trials_to_train.txt, or ibmGestureTrain (with data.download=true, will hold)"
    folder: ClassVar = "DVSGesture"
    content: ClassVar = ("ibmGestureTrain", "ibmGestureTest")
    archives: ClassVar = (
        Archive("https://figshare.com/ndownloader/files/38022171", "train.tar.gz", "3a8f0d4120a166bac7591f77409cb105"),
        Archive("https://figshare.com/ndownloader/files/38020584", "test.tar.gz", "56070e45dadaa85fff82e0fbfbc06de5"),
    )

    def read(self, time_steps: int) -> Source:
        """List the recordings; see :meth:`.EventSet.read`.

        Raises:
            FileNotFoundError: it is not there and ``download`` is false, or one of its files is not.
            ValueError: a list is not of the layout, or the download failed.
        """
        maker = self.maker(SENSOR, time_steps)
        base = first_with(self.path, ("DvsGesture", "."), _OFFICIAL)
        if base is not None:
            parts = [_collect(_trials(base, base / name), maker) for name in _OFFICIAL]
        else:
            base = self.find()
            parts = [_collect(_arrays(base, base / name), maker) for name in self.content]
        return self.parts(parts[0], parts[1], list(CLASSES))


def _collect(samples: Iterator[tuple[Recording, int]], maker: FrameMaker) -> EventImages:
    recordings, labels = [], []
    for recording, label in samples:
        recordings.append(recording)
        labels.append(label)
    return EventImages(recordings, torch.tensor(labels, dtype=torch.int64), maker)


@dataclass(frozen=True)
class Trial(Recording):
    """One gesture in a recording of many; ``start`` and ``end`` in microseconds of the recording's clock."""

    name: str
    state: FileState
    start: int
    end: int

    def identity(self) -> tuple[str | int, ...]:
        """Return the state of its file and its place there."""
        return *self.state.identity(), self.start, self.end

    def read(self, sensor: Sensor) -> Events:
        """Read its part of the file."""
        try:
            events = read_aedat3(Path(self.state.path), self.start, self.end)
        except OSError as error:
            raise RecordingError(f"{self.state.path} cannot be read: {error.strerror}") from error
        self.state.check()
        return checked(events, sensor, f"{self.state.path} from {self.start} to {self.end} us")


def _trials(base: Path, listing: Path) -> Iterator[tuple[Recording, int]]:
    for name in sorted(line.strip() for line in _lines(listing) if line.strip()):
        path = base / name
        if not path.is_file():
            raise FileNotFoundError(f"data.root: {listing} names {name}, but {path} is missing")
        state = FileState.of(path)
        for number, (label, start, end) in enumerate(_labels(path.with_name(f"{path.stem}_labels.csv"))):
            yield Trial(f"{name}#{number:02d}", state, start, end), label


def _labels(path: Path) -> list[tuple[int, int, int]]:
    if not path.is_file():
        raise FileNotFoundError(f"data.root: {path} is missing")
    try:
        heading, *rows = [[cell.strip() for cell in row] for row in csv.reader(_lines(path)) if row] or [[]]
    except csv.Error as error:
        raise ValueError(f"{path} is no list of gestures: {one_line(error)}") from None
    if heading != _HEADING:
        raise ValueError(f"{path} is no list of gestures: its first line is not {','.join(_HEADING)}")
    result = []
    for row in rows:
        try:
            label, start, end = (int(cell) for cell in row)
        except ValueError:
            shown = ",".join(row)[:60]
            raise ValueError(f"{path} is no list of gestures: {shown!r} is not three whole numbers") from None
        if not 1 <= label <= len(CLASSES) or not 0 <= start < end:
            raise ValueError(f"{path} has a gesture of class {label} from {start} to {end}, which cannot be")
        result.append((label - 1, start, end))
    return result


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text: {one_line(error)}") from None


@dataclass(frozen=True)
class TrialArray(Recording):
    """One gesture as an array ``[n, 4]`` of x, y, p and t in milliseconds."""

    name: str
    state: FileState

    def identity(self) -> tuple[str | int, ...]:
        """Return the state of its file."""
        return self.state.identity()

    def read(self, sensor: Sensor) -> Events:
        """Read its file."""
        path = self.state.path
        try:
            array = np.load(path, allow_pickle=False)
        # What numpy raises for a damaged file depends on where the damage is.
        except Exception as error:
            raise RecordingError(f"{path} is cut short, damaged or no numpy array: {one_line(error)}") from error
        if not isinstance(array, np.ndarray) or array.ndim != 2 or array.shape[1] != 4 or array.dtype.kind not in "iuf":
            raise RecordingError(f"{path} is no gesture: it holds no array [n, 4] of x, y, p and t")
        self.state.check()
        x, y, p, t = array.T
        return checked(Events.of(t * 1000, x, y, p > 0), sensor, path)


def recording_of(path: Path) -> Recording:
    """Return the recording in a file of the set: an array of one gesture, or whatever else its name says."""
    listed = path.suffix.lower() == ".npy" and not _has_columns(path)
    return TrialArray(path.name, FileState.of(path)) if listed else FileRecording.of(str(path), path.parent)


def _has_columns(path: Path) -> bool:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False).dtype.names is not None
    except Exception:  # whatever it is, its reader says so
        return True


def _arrays(base: Path, folder: Path) -> Iterator[tuple[Recording, int]]:
    for path in sorted(folder.glob("*/*.npy"), key=lambda path: path.relative_to(folder).as_posix()):
        if not path.stem.isdecimal() or int(path.stem) >= len(CLASSES):
            raise ValueError(f"{path} is no gesture: its name is no label from 0 to {len(CLASSES) - 1}")
        yield TrialArray(path.relative_to(base).as_posix(), FileState.of(path)), int(path.stem)
