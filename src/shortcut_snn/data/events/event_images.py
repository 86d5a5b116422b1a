"""Recordings as a data set of frames."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from ...machine import check_memory
from ..fingerprint import Fingerprint, of_values, spread
from ..images import Images, Indices
from .cache import FrameCache, cache_folder
from .frames import MOST, Frames, Slicing, frame_size, to_frames
from .recording import Recording, Sensor

CUT = 0.01
"""A larger share of cells at the greatest count is worth a warning."""

SAMPLES = 16
"""So many recordings stand for all of them."""


@dataclass(frozen=True)
class FrameMaker:
    """Makes frames of recordings, or finds them in its cache.

    Attributes:
        sensor: height and width of the camera.
        size: height and width of the frames.
        time_steps: frames of each recording.
        slicing: what the frames have in common.
        cache: where they are kept; None: nowhere.
        told: of which recordings a warning spoke.
    """

    sensor: Sensor
    size: tuple[int, int]
    time_steps: int
    slicing: Slicing
    cache: FrameCache | None
    told: list[str] = field(default_factory=list, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Refuse frames that no memory holds: the counts of one recording are 8 bytes each."""
        needed = 8 * self.time_steps * 2 * math.prod(self.size)
        what = f"network.time_steps: {self.time_steps:,} frames of {self.size[0]} x {self.size[1]} pixels"
        check_memory(needed, what, "choose fewer steps or a smaller data.size")

    @classmethod
    def of(
        cls, sensor: Sensor, time_steps: int, size: int | None = None, slicing: Slicing = "time",
        cache: str | None = None,
    ) -> "FrameMaker":  # fmt: skip
        """Make it of what a recipe says; see :class:`.EventSet`.

        Raises:
            ValueError: frames larger than the sensor, or a cache that cannot be written to.
        """
        frames = frame_size(sensor, size)
        transform = {"sensor": sensor, "size": frames, "time_steps": time_steps, "slicing": slicing}
        folder = cache_folder(cache)
        return cls(sensor, frames, time_steps, slicing, FrameCache(folder, transform) if folder else None)

    def __call__(self, recording: Recording) -> Frames:
        """Return the frames of a recording, uint8 ``[T, 2, H, W]``."""
        identity = recording.identity()
        frames = self.cache.get(identity) if self.cache else None
        if frames is None:
            events = recording.read(self.sensor)
            frames = to_frames(events, self.sensor, self.size, self.time_steps, self.slicing)
            if self.cache:
                self.cache.put(identity, frames)
        if not self.told:
            self._tell_what_is_cut(recording.name, frames)
        return frames

    def _tell_what_is_cut(self, name: str, frames: Frames) -> None:
        cut = int(np.count_nonzero(frames == MOST)) / max(int(np.count_nonzero(frames)), 1)
        if cut > CUT:
            self.told.append(name)
            warnings.warn(
                f"in the frames of {name} {100 * cut:.0f} % of the cells with events hold {MOST} or more, which count "
                f"as {MOST}: what tells recordings apart may be lost; choose a larger data.size or more "
                "network.time_steps",
                stacklevel=3,
            )


class EventImages(Images):
    """Frames of recordings with integer labels; an item is ``(uint8 [T, 2, H, W], int)``.

    Args:
        recordings: the samples.
        labels: int64 ``[n]``.
        maker: makes their frames.

    """

    def __init__(self, recordings: Sequence[Recording], labels: Tensor, maker: FrameMaker) -> None:
        self.recordings, self.labels, self.maker = recordings, labels.to(torch.int64), maker
        self.shape = (2, *maker.size)

    def fetch(self, indices: Indices) -> Tensor:
        """Return the frames at ``indices``, a fresh uint8 ``[N, T, 2, H, W]``.

        Raises:
            RecordingError: a recording cannot be used.
        """
        frames = np.empty((len(indices), self.maker.time_steps, *self.shape), np.uint8)
        for place, index in enumerate(indices):
            frames[place] = self.maker(self.recordings[index])
        return torch.from_numpy(frames)

    def subset(self, indices: Indices) -> Self:
        """Return the recordings at ``indices``, in that order."""
        chosen = [self.recordings[index] for index in indices]
        return type(self)(chosen, self.labels[torch.as_tensor(indices, dtype=torch.int64)], self.maker)

    def names(self) -> Sequence[str]:
        """Return what each is called within its set."""
        return [recording.name for recording in self.recordings]

    def made_with(self) -> dict[str, Any]:
        """Return the camera's height and width, and how all recordings become frames."""
        turned = any(getattr(recording, "turned", False) for recording in self.recordings)
        return {"sensor": list(self.maker.sensor), "slicing": self.maker.slicing, "turned": turned}

    def fingerprint(self) -> Fingerprint:
        """Return by what one can tell whether these are the same recordings later on: state of the files, a sample."""
        dates = of_values([list(recording.identity()) for recording in self.recordings])
        sample: Tensor | list[Tensor] = self.fetch(spread(len(self), SAMPLES)) if len(self) else []
        return {"dates": dates["contents"], **of_values([self.labels, sample])}

    def storage(self) -> str:
        """Say where the frames are kept and how much room they take."""
        cache = self.maker.cache
        if cache is None:
            return ""
        count, size = cache.size()
        return f"frames of {count:,} recordings are kept in {cache.folder}, {size / 1e6:,.1f} MB"

    def joined(self, other: "EventImages") -> Self:
        """Return these recordings and then the other's, which become frames in the same way."""
        recordings = [*self.recordings, *other.recordings]
        return type(self)(recordings, torch.cat([self.labels, other.labels]), self.maker)
