"""From a file's name to the function that reads it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import one_line
from ..recording import Events, FileState, Recording, RecordingError, Sensor, checked, unwrapped

# Where each format's reader lives; only the one asked for is imported.
_READERS = {
    ".aedat": "aedat.read_aedat",
    ".aedat4": "aedat4.read_aedat4",
    ".bin": "atis.read_bin",
    ".dat": "prophesee.read_dat",
    ".npy": "arrays.read_npy",
    ".txt": "text.read_text",
    ".csv": "text.read_text",
}
EXTENSIONS = frozenset(_READERS)
"""What can be read; other files in a class folder are passed over."""

_LIBRARIES = {".aedat4": "aedat"}


def check_libraries(extensions: set[str]) -> None:
    """Make sure that what reads files with these extensions is installed.

    Raises:
        ValueError: it is not; the message says how to get it.
    """
    for extension in sorted(extensions):
        library = _LIBRARIES.get(extension)
        if library and find_spec(library) is None:
            raise ValueError(f"reading {extension} files needs {library}: pip install 'shortcut-snn[events]'")


def read_file(path: Path, sensor: Sensor, turned: bool = False) -> Events:
    """Read a file of any of the formats, which its extension tells.

    Args:
        path: the file.
        sensor: height and width of the camera.
        turned: whether an ``.aedat`` file is turned; see :func:`.read_aedat`.

    Raises:
        RecordingError: it is damaged, empty or something else; the message names it.
    """
    module, function = _READERS[path.suffix.lower()].split(".")
    read: Callable[..., Events] = getattr(import_module(f".{module}", __package__), function)
    if path.suffix.lower() == ".aedat":
        read = partial(read, turned=turned)
    try:
        if path.stat().st_size == 0:
            raise RecordingError(f"{path} is empty")
        return checked(read(path, sensor), sensor, str(path))
    except OSError as error:
        raise RecordingError(f"{path} cannot be read: {error.strerror or one_line(error)}") from error


@dataclass(frozen=True)
class FileRecording(Recording):
    """A recording that has a file for itself."""

    name: str
    state: FileState
    turned: bool = False

    @classmethod
    def of(cls, path: str, folder: Path, turned: bool = False) -> "FileRecording":
        """Name it after its place in a folder."""
        return cls(Path(path).relative_to(folder).as_posix(), FileState.of(path), turned)

    def identity(self) -> tuple[str | int, ...]:
        """Return the state of its file when it was listed, and how it is read where that may differ."""
        # Once all of these were read turned, and a cache may hold frames of that.
        upright = not self.turned and self.state.path.lower().endswith(".aedat")
        return (*self.state.identity(), "upright") if upright else self.state.identity()

    def read(self, sensor: Sensor) -> Events:
        """Read its file."""
        events = read_file(Path(self.state.path), sensor, self.turned)
        self.state.check()
        return events


def columns(path: Path, array: Any) -> Events:
    """Take the columns x, y, t and p of a structured array.

    Raises:
        RecordingError: one is missing or holds no numbers.
    """
    names = array.dtype.names or ()
    missing = [name for name in "xytp" if name not in names]
    if missing or array.ndim != 1:
        raise RecordingError(f"{path} is no list of events with the columns x, y, t and p: it has {_found(array)}")
    kinds = {name: "iubf" if name == "t" else "iub" for name in "xytp"}
    wrong = [name for name, kind in kinds.items() if array[name].dtype.kind not in kind or array[name].ndim != 1]
    if wrong:
        raise RecordingError(f"{path} has {array[wrong[0]].dtype} for {wrong[0]}, where whole numbers are needed")
    t = array["t"]
    if t.dtype.kind == "f":
        if not np.isfinite(t).all():
            raise RecordingError(f"{path} has a t that is no number")
        t = microseconds(t)
    return Events.of(unwrapped(t) if t.dtype == np.uint32 else t, array["x"], array["y"], array["p"] > 0)


def microseconds(t: Any) -> Any:
    """Return times that are fractions: seconds where any has something behind the point, else microseconds.

    Example:
        >>> microseconds(np.array([0.5, 1.0])), microseconds(np.array([5.0, 7.0]))
        (array([ 500000., 1000000.]), array([5., 7.]))
    """
    return np.rint(t.astype(np.float64) * 1e6) if (t % 1).any() else t


def _found(array: Any) -> str:
    return ", ".join(array.dtype.names) if array.dtype.names else f"{array.dtype} {list(array.shape)}"
