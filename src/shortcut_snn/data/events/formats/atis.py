"""N-MNIST's and N-Caltech101's files: five bytes an event, no header (``.bin``)."""

from pathlib import Path

import numpy as np

from ..recording import Events, RecordingError, Sensor

_BYTES = 5


def read_bin(path: Path, sensor: Sensor) -> Events:
    """Read the file through tonic.

    Raises:
        RecordingError: it does not consist of whole events.
    """
    from tonic.io import read_mnist_file

    left = path.stat().st_size % _BYTES
    if left:
        raise RecordingError(f"{path} is cut short or no recording: {left} bytes are left after the last whole event")
    wanted = np.dtype([("x", np.int64), ("y", np.int64), ("t", np.int64), ("p", np.bool_)])
    events = read_mnist_file(str(path), dtype=wanted)
    return Events.of(events["t"], events["x"], events["y"], events["p"])
