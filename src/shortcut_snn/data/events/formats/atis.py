"""The ATIS format of N-MNIST and N-Caltech101: five bytes per event, no header (``.bin``)."""

from pathlib import Path

import numpy as np

from ...errors import DataFileError
from ..recording import Events

_BYTES = 5
# An event of this row marks an overflow of the camera's clock.
_OVERFLOW_ROW, _OVERFLOW_TIME = 240, 1 << 13


def read_bin(path: Path) -> Events:
    """Read events of 40 bits: x (8), y (8), polarity (1) and microseconds (23), the highest byte first."""
    content = np.fromfile(path, np.uint8)
    remainder = len(content) % _BYTES
    if remainder:
        raise DataFileError(f"{path} is cut short or not a recording: {remainder} bytes follow the last event")
    x, y, high, middle, low = content.reshape(-1, _BYTES).astype(np.int64).T
    overflow = y == _OVERFLOW_ROW
    t = ((high & 0x7F) << 16 | middle << 8 | low) + _OVERFLOW_TIME * np.cumsum(overflow)
    return Events.of(*(column[~overflow] for column in (t, x, y, high >> 7)))
