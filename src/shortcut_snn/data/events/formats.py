"""Readers of event files, one function per format; AEDAT has a file of its own."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from ..reading import DataFileError, one_line, require
from .aedat import read_aedat, read_aedat4
from .prophesee import read_dat, read_raw, refuse_h5
from .recording import Events, Sensor, unwrap


def read_npy(path: Path) -> Events:
    """Read a structured array ``[n]`` with integer columns x, y and p, and t in microseconds or fractional seconds."""
    array = load_array(path)
    names = array.dtype.names or ()
    if array.ndim != 1 or not set("xytp") <= set(names):
        content = ", ".join(names) or f"{array.dtype} {list(array.shape)}"
        raise DataFileError(f"{path} is not a list of events with the columns x, y, t and p: it has {content}")
    for name in "xytp":
        column = array[name]
        if column.ndim != 1 or column.dtype.kind not in ("iubf" if name == "t" else "iub"):
            raise DataFileError(f"{path} has {column.dtype} for {name}, where integers are needed")
    t = array["t"]
    if t.dtype.kind == "f":
        # All of them beyond int64 would become one time.
        if not (np.abs(t) < 2**52).all():
            raise DataFileError(f"{path} has a time t that is NaN, infinite or beyond 52 bits")
        # Times are seconds if any has a fraction.
        t = np.rint(t.astype(np.float64) * 1e6) if (t % 1).any() else t
    elif t.dtype == np.uint32:
        t = unwrap(t)
    return Events.of(t, array["x"], array["y"], array["p"] > 0)


def load_array(path: Path) -> Any:
    """Return the array in a ``.npy`` file."""
    try:
        array = np.load(path, allow_pickle=False)
    # The error that numpy raises depends on where the file is damaged.
    except Exception as error:
        raise DataFileError(f"{path} is cut short, damaged or not a numpy array: {one_line(error)}") from error
    if not isinstance(array, np.ndarray):
        raise DataFileError(f"{path} is an archive of numpy arrays, not an array")
    return array


_ATIS_BYTES = 5
# An event of this row marks an overflow of the camera's clock.
_OVERFLOW_ROW, _OVERFLOW_TIME = 240, 1 << 13


def read_bin(path: Path) -> Events:
    """Read the ATIS format of N-MNIST: no header, and five bytes per event.

    They are x (8 bits), y (8), polarity (1) and microseconds (23), the highest byte first.
    """
    content = np.fromfile(path, np.uint8)
    remainder = len(content) % _ATIS_BYTES
    if remainder:
        raise DataFileError(f"{path} is cut short or not a recording: {remainder} bytes follow the last event")
    x, y, high, middle, low = content.reshape(-1, _ATIS_BYTES).astype(np.int64).T
    overflow = y == _OVERFLOW_ROW
    t = ((high & 0x7F) << 16 | middle << 8 | low) + _OVERFLOW_TIME * np.cumsum(overflow)
    return Events.of(*(column[~overflow] for column in (t, x, y, high >> 7)))


_READERS = {
    ".aedat4": read_aedat4, ".bin": read_bin, ".dat": read_dat, ".h5": refuse_h5, ".hdf5": refuse_h5, ".npy": read_npy,
    ".raw": read_raw,
}  # fmt: skip
EXTENSIONS = frozenset({".aedat", *_READERS})
"""File types that can be read; other files in a class folder are ignored."""


def check_libraries(extensions: Collection[str]) -> None:
    """Check that the libraries that read files with these extensions are installed."""
    if ".aedat4" in extensions:
        require(".aedat4", "aedat")


def read_file(path: Path, sensor: Sensor, turned: bool = False) -> Events:
    """Return the events of a file as they are in it; the extension determines its format. See :func:`.read_aedat`."""
    extension = path.suffix.lower()
    return read_aedat(path, sensor, turned) if extension == ".aedat" else _READERS[extension](path)
