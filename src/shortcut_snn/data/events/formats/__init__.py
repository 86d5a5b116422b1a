"""Readers of event files, one module per format."""

from collections.abc import Collection
from pathlib import Path

from ..recording import Events, Sensor
from .aedat import read_aedat, read_aedat3
from .aedat4 import read_aedat4, require_decoder
from .arrays import load_array, read_npy
from .atis import read_bin
from .prophesee import read_dat
from .text import read_text

__all__ = ["EXTENSIONS", "check_libraries", "load_array", "read_aedat3", "read_file"]

_READERS = {
    ".aedat4": read_aedat4,
    ".bin": read_bin,
    ".csv": read_text,
    ".dat": read_dat,
    ".npy": read_npy,
    ".txt": read_text,
}
EXTENSIONS = frozenset({".aedat", *_READERS})
"""File types that can be read; other files in a class folder are ignored."""


def check_libraries(extensions: Collection[str]) -> None:
    """Check that the libraries that read files with these extensions are installed."""
    if ".aedat4" in extensions:
        require_decoder()


def read_file(path: Path, sensor: Sensor, turned: bool = False) -> Events:
    """Return the events of a file as they are in it; the extension determines its format.

    Args:
        path: the file.
        sensor: height and width of the camera.
        turned: whether ``.aedat`` files have rows and columns exchanged; see :func:`.read_aedat`.
    """
    extension = path.suffix.lower()
    return read_aedat(path, sensor, turned) if extension == ".aedat" else _READERS[extension](path)
