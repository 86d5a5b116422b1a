"""Published sets of recordings: N-MNIST, CIFAR10-DVS, DVS128 Gesture, and the spoken words of SHD and SSC."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ... import components
from ..images.augmentation import Crop, Flip, Roll
from ..images.image_set import Source
from ..images.images import Indices
from ..reading import DataFileError, common_classes, one_line, require
from .event_images import EventImages, FrameMaker
from .event_set import PublicEventSet, RemoteArchive, first_with, read_part
from .formats import load_array, read_aedat3, read_file
from .recording import Events, FileState, Recording, Sensor, brightened

_MENDELEY = "https://data.mendeley.com/public-files/datasets/468j46mzdv/files"
_FIGSHARE = "https://figshare.com/ndownloader/files"
_ZENKE = "https://zenkelab.org/datasets"
NMNIST_SENSOR = (34, 34)
DVS128 = (128, 128)


@components.data("nmnist")
@dataclass(frozen=True)
class NMNIST(PublicEventSet):
    """N-MNIST: 60,000 recordings for training and 10,000 for testing, 34x34 pixels, of 10 digits.

    Orchard et al., "Converting Static Image Datasets to Spiking Neuromorphic Datasets Using Saccades", 2015.

    Args:
        root: the folder that holds its Train and Test, or NMNIST with these, or will with download.

    Example:
        >>> NMNIST("data", size=17, folds=5, fold=1).augmentations
        (Crop(padding=0.125),)
    """

    # A digit fills its frame, so a cyclic shift would cut it in two.
    default_augment: ClassVar = (Crop(),)
    root_is: ClassVar = "folder that holds (or, with data.download=true, will hold) Train and Test"
    folder: ClassVar = "NMNIST"
    content: ClassVar = ("Train", "Test")
    archives: ClassVar = (
        RemoteArchive(
            f"{_MENDELEY}/39c25547-014b-4137-a934-9d29fa53c7a0/file_downloaded",
            "train.zip",
            "20959b8e626244a1b502305a9e6e2031",
        ),
        RemoteArchive(
            f"{_MENDELEY}/05a4d654-7e03-4c15-bdfa-9bb2bcbea494/file_downloaded",
            "test.zip",
            "69ca8762b2fe404d9b9bad1103e97832",
        ),
    )

    def read(self, time_steps: int) -> Source:
        """List the recordings; see :meth:`.EventSet.read`."""
        base = self.find()
        classes, maker = common_classes(base, *self.content), self.maker(NMNIST_SENSOR, time_steps)
        train, test = (read_part(base, base / part, classes, {".bin"}, maker) for part in self.content)
        _warn_of_missing("N-MNIST", base / "Train", len(train), 60_000)
        _warn_of_missing("N-MNIST", base / "Test", len(test), 10_000)
        return Source(train, test, classes)


@components.data("cifar10dvs")
@dataclass(frozen=True)
class CIFAR10DVS(PublicEventSet):
    """CIFAR10-DVS: 10,000 recordings of 128x128 pixels, of 10 classes.

    Li et al., "CIFAR10-DVS: An Event-Stream Dataset for Object Classification", 2017. The seeded, stratified split has
    900 and 100 recordings of each class, chosen by their positions in the sorted list of names, the same on every
    machine.

    Args:
        root: the folder that holds its class folders, or CIFAR10DVS with these, or will with download.

    Example:
        >>> CIFAR10DVS("data", size=48).augmentations
        (Flip(alternating=False), Roll(pixels=5))
    """

    default_augment: ClassVar = (Flip(alternating=False), Roll())
    # 1,000 of its 10,000 recordings, as in the paper.
    test_fraction: ClassVar[float] = 0.1
    root_is: ClassVar = "folder that holds (or, with data.download=true, will hold) its class folders"
    folder: ClassVar = "CIFAR10DVS"
    content: ClassVar = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    archives: ClassVar = (RemoteArchive(f"{_FIGSHARE}/38023437", "set.zip", "ce3a4a0682dc0943703bd8f749a7701c"),)

    def read(self, time_steps: int) -> Source:
        """List the recordings; see :meth:`.EventSet.read`."""
        base, classes = self.find(), list(self.content)
        images = read_part(base, base, classes, {".aedat", ".aedat4"}, self.maker(DVS128, time_steps, turned=True))
        _warn_of_missing("CIFAR10-DVS", base, len(images), 10_000)
        return Source(images, None, classes)


def _warn_of_missing(name: str, folder: Path, found: int, published: int) -> None:
    if found != published:
        warnings.warn(f"{folder} has {found:,} recordings of {name}'s {published:,}", stacklevel=3)


GESTURES = [
    "hand clapping", "right hand wave", "left hand wave", "right arm clockwise", "right arm counter-clockwise",
    "left arm clockwise", "left arm counter-clockwise", "arm roll", "air drums", "air guitar", "other gestures",
]  # fmt: skip
_OFFICIAL = ("trials_to_train.txt", "trials_to_test.txt")
_HEADING = "class,startTime_usec,endTime_usec"


@components.data("dvsgesture")
@dataclass(frozen=True)
class DVSGesture(PublicEventSet):
    """DVS128 Gesture: 11 gestures of 29 people, 128x128 pixels; it is split by people.

    Amir et al., "A Low Power, Fully Event-Based Gesture Recognition System", CVPR 2017. The authors' layout has
    ``trials_to_train.txt`` and ``trials_to_test.txt``, which name files such as ``user01_led.aedat``, whose gestures
    ``user01_led_labels.csv`` lists. The download has ``ibmGestureTrain`` and ``ibmGestureTest`` with one folder for
    each of these files, which holds one array per gesture, named by its label.

    Args:
        root: the folder that holds either, or DvsGesture or DVSGesture with these, or will with download.

    Example:
        >>> DVSGesture("data", size=32, slicing="count").augmentations
        (Roll(pixels=5),)
    """

    # No flip, because the mirror image of a right hand wave is a left hand wave.
    default_augment: ClassVar = (Roll(),)
    root_is: ClassVar = "folder that holds trials_to_train.txt, or ibmGestureTrain (with data.download=true, will hold)"
    folder: ClassVar = "DVSGesture"
    content: ClassVar = ("ibmGestureTrain", "ibmGestureTest")
    archives: ClassVar = (
        RemoteArchive(f"{_FIGSHARE}/38022171", "train.tar.gz", "3a8f0d4120a166bac7591f77409cb105"),
        RemoteArchive(f"{_FIGSHARE}/38020584", "test.tar.gz", "56070e45dadaa85fff82e0fbfbc06de5"),
    )

    def read(self, time_steps: int) -> Source:
        """List the recordings; see :meth:`.EventSet.read`."""
        maker = self.maker(DVS128, time_steps)
        base = first_with(self.path, ("DvsGesture", "."), _OFFICIAL)
        samples, names = (_trials, _OFFICIAL) if base is not None else (_arrays, self.content)
        base = base or self.find()
        parts = [list(samples(base, base / name)) for name in names]
        train, test = (EventImages([r for r, _ in part], torch.tensor([n for _, n in part]), maker) for part in parts)
        return Source(train, test, list(GESTURES))


def _trials(base: Path, listing: Path) -> Iterator[tuple[Recording, int]]:
    for name in sorted(_lines(listing)):
        path = base / name
        if not path.is_file():
            raise FileNotFoundError(f"data.root: {listing} names {name[:80]}, but {path} is missing")
        file = FileState.of(path)
        for number, (label, start, end) in enumerate(_gestures(path.with_name(f"{path.stem}_labels.csv"))):
            yield Recording(f"{name}#{number:02d}", file, read_aedat3, (start, end)), label


def _gestures(path: Path) -> list[tuple[int, int, int]]:
    """Return label (from 0), start and end of each gesture that a file lists."""
    lines = _lines(path)
    if lines[:1] != [_HEADING]:
        raise ValueError(f"{path} is not a list of gestures: its first line is not {_HEADING}")
    try:
        rows = [map(int, line.split(",")) for line in lines[1:]]
        gestures = [(label - 1, start, end) for label, start, end in rows]
    except ValueError as error:
        raise ValueError(f"{path} is not a list of gestures: {one_line(error)}") from None
    for label, start, end in gestures:
        if not 0 <= label < len(GESTURES) or not 0 <= start < end:
            raise ValueError(f"{path} has an impossible gesture, of class {label + 1} from {start} to {end}")
    return gestures


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").split()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text: {one_line(error)}") from None


def read_gesture(path: Path, sensor: Sensor) -> Events:
    """Return the events of an array ``[n, 4]`` of x, y, p and t in milliseconds, or of a file in any other format."""
    array = load_array(path) if path.suffix.lower() == ".npy" else None
    if array is None or array.dtype.names:
        return read_file(path, sensor)
    if array.ndim != 2 or array.shape[1] != 4 or array.dtype.kind not in "iuf":
        raise DataFileError(f"{path} is not a gesture: it holds no array [n, 4] of x, y, p and t")
    x, y, p, t = array.T
    return Events.of(t * 1000, x, y, brightened(p, path))


def _arrays(base: Path, folder: Path) -> Iterator[tuple[Recording, int]]:
    for path in sorted(folder.glob("*/*.npy"), key=lambda path: path.relative_to(folder).as_posix()):
        if not path.stem.isdecimal() or int(path.stem) >= len(GESTURES):
            raise ValueError(f"{path} is not a gesture: its name is not a label from 0 to {len(GESTURES) - 1}")
        yield Recording(path.relative_to(base).as_posix(), FileState.of(path), read_gesture), int(path.stem)


COCHLEAR_CHANNELS = 700


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
        base, maker = self.find(), self.maker((1, COCHLEAR_CHANNELS), time_steps)
        parts: list[Any] = []
        for name in self.content:
            labels, keys = _read_words(base / name, ("labels", "extra/keys"), ...)
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
        RemoteArchive(f"{_ZENKE}/shd_train.h5.zip", "shd_train.h5.zip", "f3252aeb598ac776c1b526422d90eecb"),
        RemoteArchive(f"{_ZENKE}/shd_test.h5.zip", "shd_test.h5.zip", "1503a5064faa34311c398fb0a1ed0a6f"),
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
        RemoteArchive(f"{_ZENKE}/ssc_train.h5.zip", "ssc_train.h5.zip", "d102be95e7144fcc0553d1f45ba94170"),
        RemoteArchive(f"{_ZENKE}/ssc_test.h5.zip", "ssc_test.h5.zip", "a35ff1e9cffdd02a20eb850c17c37748"),
        RemoteArchive(f"{_ZENKE}/ssc_valid.h5.zip", "ssc_valid.h5.zip", "b4eee3516a4a90dd0c71a6ac23a8ae43"),
    )


def read_spikes(path: Path, sensor: Sensor, number: int) -> Events:
    """Return the spikes of a word; their times are in seconds, with 16 bits."""
    times, units = _read_words(path, ("spikes/times", "spikes/units"), number)
    order = np.argsort(times, kind="stable")
    t, x = np.rint(times[order].astype(np.float64) * 1e6), units[order]
    return Events.of(t, x, np.zeros_like(x), np.ones_like(x))


def _read_words(path: Path, names: tuple[str, str], part: Any) -> tuple[Any, Any]:
    """Return one part of each of two arrays in a file."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            first, second = (file[name][part] for name in names)
    except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise DataFileError(f"{path} is cut short or not a file of SHD or SSC: {one_line(error)}") from error
    return first, second
