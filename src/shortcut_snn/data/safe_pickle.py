"""Read pickles of plain data without running code from them."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np

# The function that numpy's own pickles name; it has moved between numpy's modules, so it is asked of an array.
_RECONSTRUCT = np.empty(0).__reduce__()[0]
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class _PlainUnpickler(pickle.Unpickler):
    """Builds dictionaries, lists, strings, numbers and numpy arrays; refuses every other name."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}") from None


def read_pickle(path: Path) -> Any:
    """Return the plain data in a pickle (Python 2's strings decoded as latin-1).

    Raises:
        ValueError: the file is no pickle, is cut short, or asks for more than plain data.
    """
    try:
        with path.open("rb") as file:
            return _PlainUnpickler(file, encoding="latin1").load()
    # A damaged pickle can fail in any instruction, with whatever that instruction raises.
    except Exception as error:
        reason = str(error).strip() or type(error).__name__
        raise ValueError(f"{path} is cut short, damaged or not plain data ({reason.rstrip('.')})") from error
