"""Recordings of an event camera and the events in them."""

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataFileError

Sensor = tuple[int, int]
"""Height and width of a camera in pixels."""

_BACKWARDS = 0.1
LATEST, LONGEST = 2**62, 2**48
"""No event has a later time, and no recording lasts longer, in whatever unit: beyond, sums would wrap around."""


class RecordingError(DataFileError):
    """A recording that cannot be used."""


@dataclass(frozen=True)
class Events:
    """Events in order of time, each an entry of four arrays ``[n]``.

    ``t`` is in microseconds from any start (or in any other unit: only proportions matter), ``x`` and ``y`` in pixels
    from the upper left, ``p`` true where the brightness rose.
    """

    t: NDArray[np.int64]
    x: NDArray[np.int64]
    y: NDArray[np.int64]
    p: NDArray[np.bool_]

    @classmethod
    def of(cls, t: NDArray[Any], x: NDArray[Any], y: NDArray[Any], p: NDArray[Any]) -> "Events":
        """Convert arrays of any integer types, or of floats that are whole numbers."""
        # What no clock shows would wrap around to what one does.
        wrong = ~(np.abs(t.astype(np.float64)) < LATEST)
        return cls(
            np.where(wrong, -LATEST, t).astype(np.int64) if wrong.any() else t.astype(np.int64),
            x.astype(np.int64),
            y.astype(np.int64),
            p.astype(np.bool_),
        )

    def __len__(self) -> int:
        return len(self.t)


def unwrapped(stamp: NDArray[np.unsignedinteger[Any]]) -> NDArray[np.int64]:
    """Undo that a clock of 32 bits starts from 0 again, after 71 minutes where it counts microseconds.

    Where it does, a step is the short way round; where no step back is that long, all is as it stands.

    Example:
        >>> unwrapped(np.array([2**32 - 2, 1, 0, 5], np.uint32)).tolist()
        [4294967294, 4294967297, 4294967296, 4294967301]
    """
    t = stamp.astype(np.int64)
    if not (np.diff(t) < -(2**31)).any():
        return t
    steps = np.diff(stamp.astype(np.uint32)).view(np.int32)
    return np.concatenate([t[:1], steps.astype(np.int64)]).cumsum()


def checked(events: Events, sensor: Sensor, where: str) -> Events:
    """Return the events in order of time, if they can be those of a recording.

    Some cameras deliver a few events late; those are put in their place.

    Raises:
        RecordingError: there are none, one lies outside the sensor, the clock starts anew on the way, or time mostly
            runs anyhow, as it does in a file that is something else.
    """
    if not len(events):
        raise RecordingError(f"{where} is empty: it holds no events")
    height, width = sensor
    outside = (events.x < 0) | (events.x >= width) | (events.y < 0) | (events.y >= height)
    if outside.any():
        first = int(np.argmax(outside))
        raise RecordingError(
            f"{where} is no recording of a sensor of {height}x{width} pixels (height x width): it has an event at"
            f" x={events.x[first]}, y={events.y[first]}"
        )
    first, last = int(events.t.min()), int(events.t.max())
    if first <= -LATEST or last - first >= LONGEST:
        raise RecordingError(
            f"{where} is damaged or no recording: it has an event at a time that is no number, or {last - first} after "
            "another"
        )
    late = np.diff(events.t) < 0
    if not late.any():
        return events
    if late.mean() > _BACKWARDS:
        raise RecordingError(
            f"{where} is damaged or no recording: time runs backwards in {100 * late.mean():.0f} % of its events "
            "(if they only stand in another order, sort them by t)"
        )
    back = int(np.argmin(np.diff(events.t)))
    if 2 * (events.t[back] - events.t[back + 1]) > last - first:
        # Put in order, what came before and after would lie on top of each other.
        raise RecordingError(
            f"{where} holds more than one recording: its clock goes back from {events.t[back]} to "
            f"{events.t[back + 1]} at event {back + 1:,} of {len(events):,}; divide it there"
        )
    order = np.argsort(events.t, kind="stable")
    return Events(events.t[order], events.x[order], events.y[order], events.p[order])


class Recording(ABC):
    """One sample of an event set.

    Attributes:
        name: what it is called within its set, the same on every machine.
    """

    name: str

    @abstractmethod
    def identity(self) -> tuple[str | int, ...]:
        """Return what changes whenever the recording may have: frames are kept under it."""

    @abstractmethod
    def read(self, sensor: Sensor) -> Events:
        """Return its events, in order of time.

        Raises:
            RecordingError: the file is damaged, empty or something else; the message names it.
        """


@dataclass(frozen=True)
class FileState:
    """A file as it was when the set was listed, without a look into it.

    The time of the last change of its entry (ctime) is part of it: unlike the time of its content, no program sets
    that, so another content with the same size and time, as archives and copies make them, is noticed.
    """

    path: str
    size: int
    modified: int
    changed: int

    @classmethod
    def of(cls, path: str | Path) -> "FileState":
        """Ask the system about a file.

        Raises:
            OSError: it is not there.
        """
        state = os.stat(path)
        return cls(os.path.abspath(path), state.st_size, state.st_mtime_ns, state.st_ctime_ns)

    def identity(self) -> tuple[str | int, ...]:
        """Return all of it."""
        return self.path, self.size, self.modified, self.changed

    def check(self) -> None:
        """Make sure that the file, which has just been read, is still the one that was listed.

        Raises:
            RecordingError: it has changed, or is gone.
        """
        try:
            now = FileState.of(self.path)
        except OSError as error:
            raise RecordingError(f"{self.path} cannot be read any more: {error.strerror}") from error
        if now != self:
            raise RecordingError(f"{self.path} has changed since the set was listed; start again")
