"""Read pickled dictionaries of plain data and uint8 arrays without trusting them.

Unpickling calls whatever a file names. Here it can name two things alone, both ours: one that stands for an array,
one for its type. numpy's own are not let in: their ``__setstate__`` takes a file's word on what memory means.
"""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


class _DataType:
    """Stands for ``numpy.dtype``; of its state nothing matters to bytes."""

    def __init__(self, code: str, *_: object) -> None:
        self.code = code

    def __setstate__(self, state: object) -> None:
        pass


class _Array:
    """Stands for ``numpy.ndarray`` and for the function that numpy's pickles make one with."""

    value: NDArray[np.uint8]

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: tuple[int, tuple[int, ...], _DataType, bool, str | bytes]) -> None:
        _, shape, dtype, columns_first, content = state
        if dtype.code != "u1" or columns_first:
            raise pickle.UnpicklingError("it holds an array that is not uint8, row by row")
        # Python 2 had one type for text and bytes, and pickled the pixels as that.
        content = content.encode("latin1") if isinstance(content, str) else content
        self.value = np.frombuffer(bytearray(content), np.uint8).reshape(shape)


_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _DataType,
}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}") from None


def read_pickle(path: Path) -> dict[Any, Any]:
    """Return a pickled dictionary (Python 2's text decoded as latin-1), the arrays among its values uint8.

    Raises:
        ValueError: the file is no such pickle, is cut short, or asks for more.
    """
    try:
        with path.open("rb") as file:
            content = _PlainUnpickler(file, encoding="latin1").load()
        if not isinstance(content, dict):
            raise pickle.UnpicklingError("it holds no dictionary")
        return {key: value.value if isinstance(value, _Array) else value for key, value in content.items()}
    # A damaged pickle can fail in any instruction, with whatever that instruction raises.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path} is cut short, damaged or not plain data ({reason.rstrip('.')})") from error
