"""N-MNIST's and N-Caltech101's files: five bytes an event, no header (``.bin``)."""

from pathlib import Path

import numpy as np

from ..recording import Events, RecordingError, Sensor

_BYTES = 5


_OVERFLOW_ROW, _OVERFLOW = 240, 1 << 13


def read_bin(path: Path, sensor: Sensor) -> Events:
    """Read events of 40 bits: x (8), y (8), polarity (1) and microseconds (23), the highest byte first.

    An event of row 240 is none: the camera's clock overflowed there, and all times from then on are 2**13 later.

    Raises:
        RecordingError: it does not consist of whole events.
    """
    content = np.fromfile(path, np.uint8)
    left = len(content) % _BYTES
    if left:
        raise RecordingError(f"{path} is cut short or no recording: {left} bytes are left after the last whole event")
    x, y, high, middle, low = content.reshape(-1, _BYTES).astype(np.int64).T
    overflow = y == _OVERFLOW_ROW
    t = ((high & 0x7F) << 16 | middle << 8 | low) + _OVERFLOW * np.cumsum(overflow)
    return Events.of(*(column[~overflow] for column in (t, x, y, high >> 7)))
