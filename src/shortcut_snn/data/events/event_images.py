"""Recordings as a data set of frames."""

import warnings
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from ..images.images import Images, Indices
from .cache import FrameCache, cache_folder
from .frames import SATURATED, Frames, Slicing, frame_size, to_frames
from .recording import Recording, Sensor

_WARN_SATURATED = 0.01


class FrameMaker:
    """A FrameMaker makes the frames of recordings, or reads them from its cache.

    Args:
        time_steps: number of frames per recording.
        size: shorter side of the frames in pixels; None for the sensor's.
        cache: folder of the cache; None for the default folder, "off" for none.
        turned: see :func:`.read_file`.

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
        turned: bool = False,
    ) -> None:
        self.sensor, self.time_steps, self.slicing, self.turned = sensor, time_steps, slicing, turned
        self.size = frame_size(sensor, size)
        transform = {"sensor": sensor, "size": self.size, "time_steps": time_steps, "slicing": slicing}
        folder = cache_folder(cache)
        self.cache = FrameCache(folder, transform) if folder else None

    def __call__(self, recording: Recording) -> Frames:
        """Return the frames of a recording, uint8 ``[T, 2, H, W]``."""
        frames = self.cache.get(recording.identity) if self.cache else None
        if frames is None:
            events = recording.read(self.sensor)
            frames = to_frames(events, self.sensor, self.size, self.time_steps, self.slicing)
            if self.cache:
                self.cache.put(recording.identity, frames)
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
        """Return the frames at ``indices`` as a new tensor, uint8 ``[N, T, 2, H, W]``.

        Raises:
            DataFileError: a recording cannot be used.
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
        maker = self.maker
        return {"sensor": list(maker.sensor), "slicing": maker.slicing, "turned": maker.turned}

    def joined(self, other: "EventImages") -> Self:
        """Return these recordings followed by the other set's, whose maker must be the same."""
        recordings = [*self.recordings, *other.recordings]
        return type(self)(recordings, torch.cat([self.labels, other.labels]), self.maker)
