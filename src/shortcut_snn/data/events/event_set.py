"""What every set of recordings shares."""

import os
from abc import abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Ge, MinLen

from ..class_folders import labelled_files
from ..counter_random import Stream
from ..download import Archive, download
from ..images import TEST_FRACTION, Positive, Source, StoredSet
from ..split import stratified_folds, stratified_split
from .event_images import EventImages, FrameMaker
from .formats.files import FileRecording, check_libraries
from .frames import Slicing
from .recording import Sensor

# Counts as they are: the first layer's normalisation scales them, and a pixel without events stays 0.
MEAN, STD = (0.0, 0.0), (1.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class EventSet(StoredSet):
    """A set of recordings of an event camera; one of your own needs :meth:`read` alone.

    Args:
        slicing: time (every frame of a recording lasts as long) or count (every frame holds as many events).
        size: shorter side of the frames in pixels; the default is the sensor's. Events are counted straight into the
            smaller grid, where a pixel across two cells deals its events out between them.
        cache: folder in which frames are kept, so that a recording is read once; off for none. The default is
            ~/.cache/shortcut-snn/frames. It can be deleted at any time.
        folds: deal training and test recordings together out into so many seeded, stratified parts, one of which is
            the test set; 0 keeps the set's own.
        fold: which part is the test set, from 0.
    """

    slicing: Slicing = "time"
    size: Positive | None = None
    cache: Annotated[str, MinLen(1)] | None = None
    folds: Annotated[int, Ge(0)] = 0
    fold: Annotated[int, Ge(0)] = 0

    kind: ClassVar[Literal["static", "events"]] = "events"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.folds == 1:
            raise ValueError("folds: 0 or at least 2 are needed, got 1")
        if self.fold >= max(self.folds, 1):
            most = f"0 to {self.folds - 1} for {self.folds} folds" if self.folds else "0 without folds"
            raise ValueError(f"fold: must be {most}, got {self.fold}")

    @abstractmethod
    def read(self, time_steps: int) -> Source:
        """List the recordings.

        Args:
            time_steps: frames that each is to have.

        Raises:
            FileNotFoundError: files are missing; the message says which and what to do.
            ValueError: files are of another kind.
        """

    def _source(self, time_steps: int | None) -> Source:
        if time_steps is None or time_steps < 1:
            raise ValueError(f"{self.name}: recordings need a number of frames of at least 1, got {time_steps}")
        return self.read(time_steps)

    def maker(self, sensor: Sensor, time_steps: int) -> FrameMaker:
        """Return what makes frames of recordings of a sensor of (height, width)."""
        return FrameMaker.of(sensor, time_steps, self.size, self.slicing, self.cache)

    def parts(
        self,
        train: EventImages,
        test: EventImages | None,
        classes: list[str],
        validation: EventImages | None = None,
        test_fraction: float = TEST_FRACTION,
    ) -> Source:
        """Make a source of a set's parts, dealing them out anew where folds are asked for.

        Args:
            train: training recordings, or all.
            test: test recordings; None: a seeded, stratified ``test_fraction`` of ``train``.
            classes: by label.
            validation: the set's own, if it has any.
            test_fraction: see ``test``.

        Raises:
            ValueError: a class has too few recordings to be dealt out.
        """
        if self.folds:
            joined = train if test is None else train.joined(test)
            part = stratified_folds(joined.labels.numpy(), self.folds, self.seed, Stream.FOLDS, classes)
            kept, held = np.flatnonzero(part != self.fold), np.flatnonzero(part == self.fold)
            train, test = joined.subset(kept), joined.subset(held)
        elif test is None:
            labels = train.labels.numpy()
            kept, held = stratified_split(labels, test_fraction, self.seed, Stream.TEST_SPLIT, classes)
            train, test = train.subset(kept), train.subset(held)
        return Source(train, test, classes, validation, MEAN, STD)


@dataclass(frozen=True)
class PublicEventSet(EventSet):
    """A published set of recordings.

    Args:
        download: fetch it into root if it is not there.
    """

    download: bool = False

    folder: ClassVar[str]
    """Name of the folder that a download makes in root."""
    content: ClassVar[tuple[str, ...]]
    """What lies in the folder."""
    archives: ClassVar[Sequence[Archive]]

    def find(self) -> Path:
        """Return the folder that holds the set, which is root or in root, downloading it if allowed.

        Raises:
            FileNotFoundError: there is none and ``download`` is false.
            ValueError: the download failed, or there is another folder of that name.
        """
        root = self.path
        base = first_with(root, (self.folder, "."), self.content)
        if base is None and self.download:
            if (root / self.folder).exists():
                raise ValueError(f"{root / self.folder} is not a whole {self.name}; move it away to download the set")
            download(root, self.folder, self.archives, unpack_into=self.folder)
            base = first_with(root, (self.folder,), self.content)
        if base is None:
            first, *_, last = self.content
            wanted = f"{first} and {last}" if len(self.content) == 2 else f"{first}, ... and {last}"
            raise FileNotFoundError(
                f"data.root: {root} has no {wanted}; set data.download=true to download {self.name}, or point data.root"
                " at the folder that holds them"
            )
        return base


def first_with(root: Path, places: Sequence[str], content: Sequence[str]) -> Path | None:
    """Return the first of the places in ``root`` that has everything in ``content``."""
    return next((root / at for at in places if all((root / at / name).exists() for name in content)), None)


def read_part(
    root: Path, folder: Path, names: list[str], extensions: Collection[str], maker: FrameMaker, turned: bool = False
) -> EventImages:
    """List the recordings below the class folders of ``folder``, sorted by name, and name them after ``root``.

    Args:
        root: what their names begin behind.
        folder: holds the class folders.
        names: of the classes.
        extensions: of the files that are recordings.
        maker: makes their frames.
        turned: whether ``.aedat`` files are turned, as those of CIFAR10-DVS.

    Raises:
        FileNotFoundError: a class folder has none.
        ValueError: a recording is there in two formats, or the library that reads one is not installed.
    """
    paths, labels = labelled_files(folder, names, extensions, "recordings")
    check_libraries({os.path.splitext(path)[1].lower() for path in paths})
    seen: dict[str, str] = {}
    for path in paths:
        # It could end up in the training set and in the test set.
        other = seen.setdefault(os.path.splitext(path)[0], path)
        if other is not path:
            raise ValueError(f"{other} and {path} seem to be the same recording; keep one of them")
    return EventImages([FileRecording.of(path, root, turned) for path in paths], torch.tensor(labels), maker)
