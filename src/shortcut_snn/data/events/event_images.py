"""Recordings as a data set of frames."""

import warnings
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from ..fingerprint import evenly_spaced, hash_values
from ..images import Images, Indices
from .cache import FrameCache, cache_folder
from .frames import SATURATED, Frames, Slicing, frame_size, to_frames
from .recording import Recording, Sensor

_WARN_SATURATED = 0.01
_HASHED_RECORDINGS = 16


class FrameMaker:
    """A FrameMaker makes the frames of recordings, or reads them from its cache.

    Args:
        sensor: height and width of the camera.
        time_steps: number of frames per recording.
        size: shorter side of the frames in pixels; None for the sensor's.
        slicing: see :data:`.Slicing`.
        cache: folder of the cache; None for the default folder, "off" for none.

    Raises:
        ValueError: the frames are larger than the sensor, or the cache cannot be written to.
    """

    def __init__(
        self,
        sensor: Sensor,
        time_steps: int,
        size: int | None = None,
        slicing: Slicing = "time",
        cache: str | None = None,
    ) -> None:
        self.sensor, self.time_steps, self.slicing = sensor, time_steps, slicing
        self.size = frame_size(sensor, size)
        transform = {"sensor": sensor, "size": self.size, "time_steps": time_steps, "slicing": slicing}
        folder = cache_folder(cache)
        self.cache = FrameCache(folder, transform) if folder else None

    def __call__(self, recording: Recording) -> Frames:
        """Return the frames of a recording, uint8 ``[T, 2, H, W]``."""
        identity = recording.identity()
        frames = self.cache.get(identity) if self.cache else None
        if frames is None:
            events = recording.read(self.sensor)
            frames = to_frames(events, self.sensor, self.size, self.time_steps, self.slicing)
            if self.cache:
                self.cache.put(identity, frames)
        if np.count_nonzero(frames == SATURATED) > _WARN_SATURATED * np.count_nonzero(frames):
            # Python shows a warning with the same text once.
            warnings.warn(
                f"more than {_WARN_SATURATED:.0%} of the cells with events are saturated at {SATURATED} in some frames;"
                " choose a larger data.size or more network.time_steps",
                stacklevel=2,
            )
        return frames


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
        """Return the frames at ``indices`` as a new tensor, uint8 ``[N, T, 2, H, W]``.

        Raises:
            RecordingError: a recording cannot be used.
        """
        frames = np.empty((len(indices), self.maker.time_steps, *self.shape), np.uint8)
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
        turned = any(getattr(recording, "turned", False) for recording in self.recordings)
        return {"sensor": list(self.maker.sensor), "slicing": self.maker.slicing, "turned": turned}

    def fingerprint(self) -> str:
        """Return a hash of the labels and of the frames of a few recordings."""
        sample = evenly_spaced(len(self), _HASHED_RECORDINGS)
        return hash_values([self.labels, self.fetch(sample) if sample else []])

    def storage(self) -> str:
        """Return one line on the cached frames; empty without a cache."""
        cache = self.maker.cache
        if cache is None:
            return ""
        count, size = cache.size()
        return f"frames of {count:,} recordings are kept in {cache.folder}, {size / 1e6:,.1f} MB"

    def joined(self, other: "EventImages") -> Self:
        """Return these recordings followed by the other set's, whose maker must be the same."""
        recordings = [*self.recordings, *other.recordings]
        return type(self)(recordings, torch.cat([self.labels, other.labels]), self.maker)
