"""A numpy array of events with the columns x, y, t and p (``.npy``)."""

from pathlib import Path

import numpy as np

from ...errors import one_line
from ..recording import Events, RecordingError, Sensor
from .files import columns


def read_npy(path: Path, sensor: Sensor) -> Events:
    """Read a structured array.

    Raises:
        RecordingError: it is damaged, no array or another array.
    """
    try:
        array = np.load(path, allow_pickle=False)
    # What numpy raises for a damaged file depends on where the damage is.
    except Exception as error:
        raise RecordingError(f"{path} is cut short, damaged or no numpy array: {one_line(error)}") from error
    if not isinstance(array, np.ndarray):
        raise RecordingError(f"{path} is no numpy array but an archive of them")
    return columns(path, array)
