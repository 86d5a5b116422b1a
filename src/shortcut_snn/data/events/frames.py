"""Frames from events: counts of events per pixel, polarity and slice of time."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .recording import Events, Sensor

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

    Args:
        events: at least one, in order of time, inside the sensor.
        size: height and width of the frames, at most the sensor's.
        slicing: ``"time"`` for frames of equal duration, ``"count"`` for frames of equally many events.
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
    cell: NDArray[np.uint64] = position * np.uint64(cells) // np.uint64(pixels) >> _HALF_WORD
    return cell.astype(np.int64)
