"""Numpy arrays of events with the columns x, y, t and p (``.npy``)."""

from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DataFileError, one_line
from ..recording import Events, unwrap
from .clock import to_microseconds


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
        if not np.isfinite(t).all():
            raise DataFileError(f"{path} has a t that is not a number")
        t = to_microseconds(t)
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
