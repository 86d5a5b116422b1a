"""Reading of numpy archives (``.npz``)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import DataFileError, one_line


def read_npz(path: str | Path, required: Sequence[str], optional: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
    """Return the named arrays of an archive.

    Raises:
        DataFileError: the file is damaged, is not an archive of plain arrays, or lacks a required array.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [name for name in required if name not in archive]
            arrays = {name: archive[name] for name in (*required, *optional) if name in archive}
    # The error that numpy and zipfile raise depends on where the file is damaged.
    except Exception as error:
        raise DataFileError(f"{path} is not a readable .npz archive of plain arrays: {one_line(error)}") from error
    if missing:
        raise DataFileError(f"{path} lacks {', '.join(missing)}; an archive needs {', '.join(required)}")
    return arrays
