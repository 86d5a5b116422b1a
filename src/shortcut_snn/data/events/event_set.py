"""Base classes of data sets of recordings."""

import os
import tempfile
from abc import abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from annotated_types import Ge, MinLen

from ..counter_random import Stream, stratified_folds
from ..images.image_set import ImageData, Positive, Source, StoredSet
from ..reading import labelled_files
from .event_images import EventImages, FrameMaker, Slicing
from .formats import read_file
from .recording import FileState, Recording, Sensor


class RemoteArchive(NamedTuple):
    """An archive to download: its address, its file name and its MD5 checksum."""

    url: str
    filename: str
    md5: str


def download(root: Path, folder: str, archives: Sequence[RemoteArchive]) -> None:
    """Download and unpack archives so that ``folder`` appears in ``root`` complete or not at all."""
    from torchvision.datasets.utils import download_and_extract_archive, extract_archive

    root.mkdir(parents=True, exist_ok=True)
    # The folder is renamed only when it is complete, so that an interrupted download cannot pass for a data set.
    with tempfile.TemporaryDirectory(dir=root, prefix=".download-") as temporary:
        target = Path(temporary, folder)
        for url, filename, md5 in archives:
            try:
                download_and_extract_archive(url, str(target), filename=filename, md5=md5, remove_finished=True)
            # OSError for the network and the disk, RuntimeError for a wrong checksum.
            except (OSError, RuntimeError) as error:
                raise ValueError(f"{url} could not be downloaded to {root}: {error}") from error
        for inner in sorted(target.glob("*.zip")):
            extract_archive(str(inner), str(target), remove_finished=True)
        target.rename(root / folder)


@dataclass(frozen=True, kw_only=True)
class EventSet(StoredSet):
    """A set of recordings of an event camera; a subclass implements :meth:`read`.

    Args:
        slicing: time (the frames of a recording have equal durations) or count (they have equally many events).
        size: shorter side of the frames in pixels; the default is the sensor's. Events are counted directly in the
            smaller grid, and a pixel that overlaps two cells distributes its events over both.
        cache: folder in which frames are cached, so that a recording is read once; off for none. The default is
            ~/.cache/shortcut-snn/frames. It can be deleted at any time.
        folds: number of seeded, stratified folds of training and test recordings together, one of which is the test
            set; 0 uses the set's own split.
        fold: the fold that is the test set, from 0.
        cut_events: number of events of a sample: recordings are cut into samples, after the split and the limits. A
            shorter end is left out, and a shorter recording is one sample. The default is whole recordings.
        cut_duration: duration of a sample instead, in microseconds (or another unit of the files).
    """

    slicing: Slicing = "time"
    size: Positive | None = None
    cache: Annotated[str, MinLen(1)] | None = None
    folds: Annotated[int, Ge(0)] = 0
    fold: Annotated[int, Ge(0)] = 0
    cut_events: Positive | None = None
    cut_duration: Positive | None = None

    kind: ClassVar[Literal["static", "events"]] = "events"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.folds == 1:
            raise ValueError("folds: must be 0 or at least 2, got 1")
        if self.fold >= max(self.folds, 1):
            allowed = f"0 to {self.folds - 1} for {self.folds} folds" if self.folds else "0 without folds"
            raise ValueError(f"fold: must be {allowed}, got {self.fold}")
        if self.cut_events and self.cut_duration:
            raise ValueError("cut_events: recordings are cut by cut_events or by cut_duration; remove one of them")

    @abstractmethod
    def read(self, time_steps: int) -> Source:
        """List the recordings, each of which becomes ``time_steps`` frames."""

    def load(self, time_steps: int | None = None) -> ImageData:
        """Read, check, limit, split and cut the set; see :meth:`.ImageSet.load`."""
        data = super().load(time_steps)
        parts: dict[str, Any] = data.parts
        # Pieces of one recording resemble each other, so all of them are in one part.
        return replace(data, **{name: recordings.cut() for name, recordings in parts.items()})

    def _source(self, time_steps: int | None) -> Source:
        if time_steps is None or time_steps < 1:
            raise ValueError(f"{self.name}: time_steps must be at least 1, got {time_steps}")
        source = self.read(time_steps)
        channels = source.train.shape[0]
        # Counts are not normalised: the first layer's norm scales them, and a pixel without events stays 0.
        source = replace(source, mean=(0.0,) * channels, std=(1.0,) * channels)
        if not self.folds:
            return source
        self._check(source)
        recordings: Any = source.train
        if source.test is not None:
            recordings = recordings.joined(source.test)
        fold = stratified_folds(recordings.labels.numpy(), self.folds, self.seed, Stream.FOLDS, source.classes)
        train, test = (np.flatnonzero(chosen) for chosen in (fold != self.fold, fold == self.fold))
        return replace(source, train=recordings.subset(train), test=recordings.subset(test))

    def maker(self, sensor: Sensor, time_steps: int, turned: bool = False) -> FrameMaker:
        """Return a frame maker with the options of the set."""
        return FrameMaker(
            sensor, time_steps, self.size, self.slicing, self.cache, turned, self.cut_events, self.cut_duration
        )


@dataclass(frozen=True)
class PublicEventSet(EventSet):
    """A published set of recordings.

    Args:
        download: download the set into root if it is missing.
    """

    download: bool = False

    folder: ClassVar[str]
    """Name of the folder that a download creates in root."""
    content: ClassVar[tuple[str, ...]]
    """Names of the folders in it."""
    archives: ClassVar[Sequence[RemoteArchive]]

    def find(self) -> Path:
        """Return the folder that holds the set, root or a folder in it, after downloading it if that is allowed."""
        base = first_with(self.path, (self.folder, "."), self.content)
        if base is None and self.download:
            if (self.path / self.folder).exists():
                raise ValueError(
                    f"{self.path / self.folder} is not a complete {self.name}; move it away to download again"
                )
            download(self.path, self.folder, self.archives)
            base = first_with(self.path, (self.folder,), self.content)
        if base is None:
            raise FileNotFoundError(
                f"data.root: {self.path} lacks {self.content[0]}, ..., {self.content[-1]}; set data.download=true to "
                f"download {self.name}, or point data.root at the folder that holds them"
            )
        return base


def first_with(root: Path, folders: Sequence[str], content: Sequence[str]) -> Path | None:
    """Return the first of the folders in ``root`` that has all names in ``content``."""
    paths = [root / folder for folder in folders]
    return next((path for path in paths if all((path / name).exists() for name in content)), None)


def read_part(
    root: Path, folder: Path, classes: list[str], extensions: Collection[str], maker: FrameMaker
) -> EventImages:
    """List the recordings below the class folders of ``folder``, sorted by path."""
    paths, labels = labelled_files(folder, classes, extensions, "recordings")
    stems: dict[str, str] = {}
    for path in paths:
        # One copy could be in the training set and the other one in the test set.
        other = stems.setdefault(os.path.splitext(path)[0], path)
        if other is not path:
            raise ValueError(f"{other} and {path} seem to be the same recording; keep one of them")
    recordings = [file_recording(path, root, maker.turned) for path in paths]
    return EventImages(recordings, torch.tensor(labels), maker)


def file_recording(path: str | Path, root: Path, turned: bool = False) -> Recording:
    """Return the recording in a file of any format, named by its path relative to ``root``."""
    return Recording(Path(path).relative_to(root).as_posix(), FileState.of(path), read_file, (turned,))
