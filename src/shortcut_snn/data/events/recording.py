"""Recordings of an event camera, and the events in them."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..reading import DataFileError, one_line

Sensor = tuple[int, int]
"""Height and width of a camera in pixels."""


@dataclass(frozen=True)
class Events:
    """Events in order of time, as four arrays ``[n]``.

    Attributes:
        t: time in microseconds from any start, or in any other unit, because only proportions matter.
        x: column in pixels from the left.
        y: row in pixels from the top.
        p: True where the brightness rose.
    """

    t: NDArray[np.int64]
    x: NDArray[np.int64]
    y: NDArray[np.int64]
    p: NDArray[np.bool_]

    @classmethod
    def of(cls, t: NDArray[Any], x: NDArray[Any], y: NDArray[Any], p: NDArray[Any]) -> "Events":
        """Convert arrays of any integer types, or of floats with integer values."""
        if t.dtype.kind in "iu" and t.dtype.itemsize == 4:
            t = unwrap(t)
        # A time beyond int64 becomes its lowest value, and check_events refuses the duration.
        with np.errstate(invalid="ignore"):
            return cls(t.astype(np.int64), x.astype(np.int64), y.astype(np.int64), p.astype(np.bool_))

    def __len__(self) -> int:
        return len(self.t)

    def __getitem__(self, part: slice | NDArray[Any]) -> "Events":
        return Events(self.t[part], self.x[part], self.y[part], self.p[part])


def brightened(p: NDArray[Any], source: Path | str) -> NDArray[np.bool_]:
    """Return True where a polarity is 1; the others are all 0, or all -1."""
    rose: NDArray[np.bool_] = p == 1
    if not ((rose | (p == 0)).all() or (rose | (p == -1)).all()):
        raise DataFileError(f"{source} has polarities p from {p.min()} to {p.max()}: they must be 0 and 1, or -1 and 1")
    return rose


def unwrap(stamps: NDArray[Any]) -> NDArray[np.int64]:
    """Undo the overflow of a 32-bit clock, which happens every 71 minutes in microseconds."""
    t = stamps.astype(np.int64)
    if not (np.diff(t) < -(2**31)).any():
        return t
    # Modulo 2**32, each step is the shorter way round the clock.
    steps = np.diff(stamps.astype(np.uint32)).view(np.int32)
    return np.concatenate([t[:1], steps.astype(np.int64)]).cumsum()


def check_events(events: Events, sensor: Sensor, source: str) -> Events:
    """Return the events in order of time, after checking that they can be a recording.

    Some cameras deliver a few events late; those are sorted.
    """
    if not len(events):
        raise DataFileError(f"{source} is empty: it holds no events")
    height, width = sensor
    outside = (events.x < 0) | (events.x >= width) | (events.y < 0) | (events.y >= height)
    if outside.any():
        first = int(np.argmax(outside))
        raise DataFileError(
            f"{source} is not from a sensor of {height}x{width} pixels (height x width): it has an event at"
            f" x={events.x[first]}, y={events.y[first]}"
        )
    duration = int(events.t.max()) - int(events.t.min())
    # In any unit. Sums over longer durations could overflow.
    if duration >= 2**48:
        raise DataFileError(f"{source} is damaged or not a recording: its times span {duration}")
    steps = np.diff(events.t)
    late = steps < 0
    if not late.any():
        return events
    if late.mean() > 0.1:
        raise DataFileError(
            f"{source} is damaged or not a recording: time runs backwards in {100 * late.mean():.0f} % of its events; "
            "if they are only unordered, sort them by t"
        )
    jump = int(np.argmin(steps))
    # Sorting would overlay the parts before and after a restart of the clock.
    if -2 * steps[jump] > duration:
        raise DataFileError(
            f"{source} holds more than one recording: its clock goes back from {events.t[jump]} to "
            f"{events.t[jump + 1]} at event {jump + 1:,}; split it there"
        )
    return events[np.argsort(events.t, kind="stable")]


def piece_bounds(t: NDArray[np.int64], cut_events: int | None, cut_duration: int | None) -> NDArray[np.int64]:
    """Return ``[n, 2]``, the first event of each piece of a recording, and the first event after the piece.

    Pieces have ``cut_events`` events or last for ``cut_duration``. A shorter end is left out, unless it is all there
    is, and so is a piece without events. An end of 95 % of the duration is a piece, since few recordings end with an
    event.
    """
    position, total = (np.arange(len(t)), len(t)) if cut_duration is None else (t - t[0], int(t[-1] - t[0]) + 1)
    length = cut_events or cut_duration or total
    if length >= total:
        return np.array([[0, len(t)]])
    piece = position // length
    starts = np.flatnonzero(np.diff(piece, prepend=-1))
    bounds = np.stack([starts, np.append(starts[1:], len(t))], 1)
    tolerance = 0 if cut_duration is None else length // 20
    return bounds[piece[starts] < (total + tolerance) // length]


@dataclass(frozen=True)
class FileState:
    """The state of a file when its set was listed, from the file system alone.

    It includes ctime, which no program sets: cached frames of a file that was replaced by one of the same size and date
    are not used.
    """

    path: str
    size: int
    modified: int
    changed: int

    @classmethod
    def of(cls, path: str | Path) -> "FileState":
        """Return the present state of a file."""
        state = os.stat(path)
        return cls(os.path.abspath(path), state.st_size, state.st_mtime_ns, state.st_ctime_ns)


@dataclass(frozen=True)
class Recording:
    """One sample of an event set.

    Attributes:
        name: the recording's name within its set, the same on every machine.
        reader: ``reader(path, sensor, *part)`` returns its events as they are in the file.
        part: further arguments of the reader, such as the recording's position in a file of many.
        span: the first of its events and the one after its last, if it is a piece of a longer recording.
    """

    name: str
    file: FileState
    reader: Callable[..., Events]
    part: tuple[int, ...] = ()
    span: tuple[int, ...] = ()

    @property
    def identity(self) -> tuple[str | int, ...]:
        """Values that change with the recording; its cached frames are stored under them."""
        return self.file.path, self.file.size, self.file.modified, self.file.changed, *self.part, *self.span

    def read(self, sensor: Sensor) -> Events:
        """Return the events in order of time."""
        path = Path(self.file.path)
        try:
            if path.stat().st_size == 0:
                raise DataFileError(f"{path} is empty")
            events = self.reader(path, sensor, *self.part)
        except OSError as error:
            raise DataFileError(f"{path} cannot be read: {error.strerror or one_line(error)}") from error
        source = str(path) if self.name.endswith(path.name) else f"{path} ({self.name})"
        return check_events(events, sensor, source)[slice(*self.span) if self.span else slice(None)]
