"""From events to frames."""

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .recording import Events, Sensor

Slicing = Literal["time", "count"]
"""What the frames of a recording have in common."""

Frames = NDArray[np.uint8]
"""Counts of events, ``[T, 2, H, W]``, at most 255: what counts more, such as a cell of many pixels in a long slice,
stays at 255 instead of starting again from 0."""

MOST = 255

# The most even sequence of points in a square (R2, by powers of the plastic number), in units of 2**-64.
_EVEN_Y, _EVEN_X = np.uint64(0xC13FA9A902A6328F), np.uint64(0x91E10DA5C79E7B1D)
_HALF = np.uint64(32)


def frame_size(sensor: Sensor, size: int | None) -> tuple[int, int]:
    """Return height and width of frames whose shorter side is ``size``; None: the sensor's.

    Raises:
        ValueError: the sensor has fewer pixels.
    """
    if size is None:
        return sensor
    shorter = min(sensor)
    if size > shorter:
        raise ValueError(f"data.size: frames cannot be larger than the sensor's {shorter} pixels, got {size}")
    height, width = ((side * size * 2 + shorter) // (2 * shorter) for side in sensor)
    return height, width


def to_frames(events: Events, sensor: Sensor, size: tuple[int, int], time_steps: int, slicing: Slicing) -> Frames:
    """Count events into frames uint8 ``[time_steps, 2, *size]``.

    Every event is counted in exactly one place. Where the grid is coarser than the sensor, a pixel that lies across
    two cells gives each its share of the events, in an even order that is the same on every machine. So cells of
    48 pixels made of 128 all weigh the same, counts stay whole numbers, and no event is lost but beyond 255 in a cell,
    as it is where frames are resized by picking pixels.

    Args:
        events: at least one, in order of time, inside the sensor.
        sensor: its height and width.
        size: height and width of the frames, at most the sensor's.
        time_steps: number of frames.
        slicing: ``"time"`` or ``"count"``.
    """
    height, width = size
    number = np.arange(len(events), dtype=np.uint64)
    y = _to_cells(events.y, sensor[0], height, number * _EVEN_Y)
    x = _to_cells(events.x, sensor[1], width, number * _EVEN_X)
    step = _STEP[slicing](events.t, time_steps)
    place = ((step * 2 + events.p) * height + y) * width + x
    counts = np.bincount(place, minlength=time_steps * 2 * height * width)
    return np.minimum(counts, MOST).astype(np.uint8).reshape(time_steps, 2, height, width)


def _to_cells(pixel: NDArray[np.int64], pixels: int, cells: int, point: NDArray[np.uint64]) -> NDArray[np.int64]:
    if pixels == cells:
        return pixel
    # Fixed point with 32 bits behind the dot: the event is put at a point inside its pixel.
    position = (pixel.astype(np.uint64) << _HALF) + (point >> _HALF)
    cell: NDArray[np.uint64] = position * np.uint64(cells) // np.uint64(pixels) >> _HALF
    return cell.astype(np.int64)


def _by_time(t: NDArray[np.int64], time_steps: int) -> NDArray[np.int64]:
    since = t - t[0]
    step: NDArray[np.int64] = since * time_steps // (since[-1] + 1)
    return step


def _by_count(t: NDArray[np.int64], time_steps: int) -> NDArray[np.int64]:
    return np.arange(len(t)) * time_steps // len(t)


_STEP: dict[Slicing, Callable[[NDArray[np.int64], int], NDArray[np.int64]]] = {"time": _by_time, "count": _by_count}
