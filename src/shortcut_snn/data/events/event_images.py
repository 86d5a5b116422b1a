"""Recordings as a data set of frames: counts of events per pixel, polarity and slice of time; and their cache."""

import hashlib
import json
import os
import struct
import warnings
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..._utils.files import expanded, make_folder, remove_strays, replacing
from ..images.images import Images, Indices
from .recording import Events, Recording, Sensor, piece_bounds

Slicing = Literal["time", "count"]
"""The frames of a recording have equal durations, or equal numbers of events."""

Frames = NDArray[np.uint8]
"""Counts of events ``[T, 2, H, W]``, saturated at 255."""

SATURATED = 255

# The R2 sequence, a low-discrepancy sequence of points in the unit square (powers of the plastic number), in units of
# 2**-64: http://extremelearning.com.au/unreasonable-effectiveness-of-quasirandom-sequences
_R2_Y, _R2_X = np.uint64(0xC13FA9A902A6328F), np.uint64(0x91E10DA5C79E7B1D)
_HALF_WORD = np.uint64(32)


def frame_size(sensor: Sensor, size: int | None) -> tuple[int, int]:
    """Return height and width of frames whose shorter side is ``size``; None for the sensor's own size."""
    if size is None:
        return sensor
    shorter = min(sensor)
    if size > shorter:
        raise ValueError(f"data.size: frames cannot be larger than the sensor's {shorter} pixels, got {size}")
    height, width = ((side * size * 2 + shorter) // (2 * shorter) for side in sensor)
    return height, width


def to_frames(events: Events, sensor: Sensor, size: tuple[int, int], time_steps: int, slicing: Slicing) -> Frames:
    """Count events into frames uint8 ``[time_steps, 2, *size]``.

    Each event is counted in exactly one cell. If the grid is coarser than the sensor, a pixel may overlap two cells;
    its events are then distributed in proportion to the overlap, in a fixed low-discrepancy order. So all cells have
    equal weight and counts stay integers. Resizing frames by picking pixels would lose events instead.

    There must be an event. They are in order of time and inside the sensor, which is at least as large as the frames.
    """
    height, width = size
    number = np.arange(len(events), dtype=np.uint64)
    y = _to_cells(events.y, sensor[0], height, number * _R2_Y)
    x = _to_cells(events.x, sensor[1], width, number * _R2_X)
    if slicing == "time":
        elapsed = events.t - events.t[0]
        step = elapsed * time_steps // (elapsed[-1] + 1)
    else:
        step = np.arange(len(events)) * time_steps // len(events)
    cell = ((step * 2 + events.p) * height + y) * width + x
    counts = np.bincount(cell, minlength=time_steps * 2 * height * width)
    return np.minimum(counts, SATURATED).astype(np.uint8).reshape(time_steps, 2, height, width)


def _to_cells(pixel: NDArray[np.int64], pixels: int, cells: int, offset: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Map pixels to cells along one axis; ``offset`` is the event's position inside its pixel, in units of 2**-64."""
    if pixels == cells:
        return pixel
    # Fixed point with 32 fractional bits.
    position = (pixel.astype(np.uint64) << _HALF_WORD) + (offset >> _HALF_WORD)
    return (position * np.uint64(cells) // np.uint64(pixels) >> _HALF_WORD).astype(np.int64)


VERSION = 2
"""Raise it with every change to the file format or to the frames of a recording; older entries are then ignored."""
_SHAPE = struct.Struct("<4I")
_WARN_SATURATED = 0.01


class FrameCache:
    """Frames by recording, for one ``transform``: everything that determines the frames of a recording, as JSON values.

    An entry's file name is a hash of the recording's identity, the transform and VERSION. A change of any of them
    gives another name, so nothing has to be invalidated. Entries are written atomically, by any number of processes.
    """

    def __init__(self, folder: Path, transform: Mapping[str, Any]) -> None:
        self._transform = _hash({**transform, "version": VERSION})
        self.folder = folder / self._transform[:24]
        self._writable = True
        try:
            make_folder(self.folder)
        except OSError as error:
            raise ValueError(
                f"data.cache: {folder} cannot be written to ({error.strerror}); name another folder, or off"
            ) from error
        remove_strays(self.folder)

    def get(self, identity: Sequence[str | int]) -> NDArray[np.uint8] | None:
        """Return the frames ``[T, 2, H, W]`` of a recording; None if they are missing or damaged."""
        path = self._path(identity)
        try:
            # Its checksum detects damage.
            content = zlib.decompress(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, zlib.error) as error:
            warnings.warn(f"cached frames {path} cannot be read ({error}) and are made again", stacklevel=2)
            return None
        return np.frombuffer(content, np.uint8, offset=_SHAPE.size).reshape(_SHAPE.unpack_from(content))

    def put(self, identity: Sequence[str | int], frames: NDArray[np.uint8]) -> None:
        """Store the frames of a recording; if the disk is full, warn once and store no more."""
        if not self._writable:
            return
        try:
            with replacing(self._path(identity)) as temporary:
                # Frames are mostly zeros: the fastest level saves nine tenths of the disk.
                temporary.write_bytes(zlib.compress(_SHAPE.pack(*frames.shape) + frames.tobytes(), 1))
        except OSError as error:
            self._writable = False
            warnings.warn(f"{self.folder} takes no more frames ({error.strerror})", stacklevel=2)

    def _path(self, identity: Sequence[str | int]) -> Path:
        return self.folder / f"{_hash([self._transform, *identity])}.frames"


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


class FrameMaker:
    """A FrameMaker makes the frames of recordings, or reads them from its cache; its options are :class:`.EventSet`'s.

    ``turned`` files have rows and columns exchanged, see :func:`.read_file`.
    """

    def __init__(
        self,
        sensor: Sensor,
        time_steps: int,
        size: int | None = None,
        slicing: Slicing = "time",
        cache: str | None = None,
        turned: bool = False,
        cut_events: int | None = None,
        cut_duration: int | None = None,
    ) -> None:
        self.sensor, self.time_steps, self.slicing, self.turned = sensor, time_steps, slicing, turned
        self.cut = {"cut_events": cut_events, "cut_duration": cut_duration}
        self.size = frame_size(sensor, size)
        transform = {"sensor": sensor, "size": self.size, "time_steps": time_steps, "slicing": slicing}
        home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        folder = expanded(cache or f"{home}/shortcut-snn/frames")
        self.cache = None if cache == "off" else FrameCache(folder, transform)

    def __call__(self, recording: Recording) -> Frames:
        """Return the frames of a recording, uint8 ``[T, 2, H, W]``."""
        frames = self.cache.get(recording.identity) if self.cache else None
        if frames is None:
            frames = self._count(recording.read(self.sensor))
            if self.cache:
                self.cache.put(recording.identity, frames)
        return _check_saturation(frames)

    def samples(self, recording: Recording) -> Frames:
        """Return the frames of all pieces of a recording, uint8 ``[n, T, 2, H, W]``."""
        events = recording.read(self.sensor)
        return _check_saturation(np.stack([self._count(events[a:b]) for a, b in piece_bounds(events.t, **self.cut)]))

    def pieces(self, recording: Recording) -> list[Recording]:
        """Return the pieces of a recording; with a cache its file is read here, and never again."""
        if not any(self.cut.values()):
            return [recording]
        key = (*recording.identity, *map(str, self.cut.values()))
        index = self.cache.get(key) if self.cache else None
        if index is not None:
            events, bounds = None, index.view(np.int64).reshape(-1, 2)
        else:
            events = recording.read(self.sensor)
            bounds = piece_bounds(events.t, **self.cut)
        pieces = [
            replace(recording, name=f"{recording.name}#{number:04d}", span=(int(a), int(b)))
            for number, (a, b) in enumerate(bounds)
        ]
        if self.cache and events:
            for piece in pieces:
                self.cache.put(piece.identity, self._count(events[slice(*piece.span)]))
            self.cache.put(key, bounds.view(np.uint8).reshape(len(bounds), 2, 1, 8))
        return pieces

    def _count(self, events: Events) -> Frames:
        return to_frames(events, self.sensor, self.size, self.time_steps, self.slicing)


def _check_saturation(frames: Frames) -> Frames:
    """Return frames, with a warning if many cells are full."""
    if np.count_nonzero(frames == SATURATED) > _WARN_SATURATED * np.count_nonzero(frames):
        # Python shows a warning with the same text once.
        warnings.warn(
            f"more than {_WARN_SATURATED:.0%} of the cells with events are saturated at {SATURATED} in some frames;"
            " choose a larger data.size or more network.time_steps",
            stacklevel=2,
        )
    return frames


class EventImages(Images):
    """Frames of recordings with integer labels; an item is ``(uint8 [T, 2, H, W], int)``."""

    def __init__(self, recordings: Sequence[Recording], labels: Tensor, maker: FrameMaker) -> None:
        self.recordings, self.labels, self.maker = recordings, labels.to(torch.int64), maker
        self.shape = (2, *maker.size)

    def fetch(self, indices: Indices) -> Tensor:
        """Return the frames at ``indices`` as a new tensor, uint8 ``[N, T, 2, H, W]``."""
        frames = np.empty((len(indices), self.maker.time_steps, 2, *self.maker.size), np.uint8)
        for position, index in enumerate(indices):
            frames[position] = self.maker(self.recordings[index])
        return torch.from_numpy(frames)

    def subset(self, indices: Indices) -> Self:
        """Return the recordings at ``indices``, in that order."""
        chosen = [self.recordings[index] for index in indices]
        return type(self)(chosen, self.labels[torch.as_tensor(indices, dtype=torch.int64)], self.maker)

    def names(self) -> Sequence[str]:
        """Return the recordings' names within their set."""
        return [recording.name for recording in self.recordings]

    def format(self) -> dict[str, Any]:
        """Return the camera's height and width, and how recordings become frames."""
        maker = self.maker
        cut = {name: value for name, value in maker.cut.items() if value}
        return {"sensor": list(maker.sensor), "slicing": maker.slicing, "turned": maker.turned, **cut}

    def cut(self) -> Self:
        """Return the pieces of all recordings."""
        pieces = [self.maker.pieces(recording) for recording in self.recordings]
        counts = torch.tensor([len(each) for each in pieces], dtype=torch.int64)
        return type(self)(list(chain(*pieces)), self.labels.repeat_interleave(counts), self.maker)

    def joined(self, other: "EventImages") -> Self:
        """Return these recordings followed by the other set's, whose maker must be the same."""
        recordings = [*self.recordings, *other.recordings]
        return type(self)(recordings, torch.cat([self.labels, other.labels]), self.maker)
