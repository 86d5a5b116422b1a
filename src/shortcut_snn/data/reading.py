"""Reading of files: errors about one file, and numpy archives."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


class DataFileError(ValueError):
    """A file of a data set that cannot be used; the message is one line and names the file.

    A DataLoader's worker process raises errors again in the training process, with the traceback as the message. Only
    the last line of that message is kept.
    """

    def __init__(self, message: str) -> None:
        prefix = f"{type(self).__module__}.{type(self).__qualname__}: "
        super().__init__(message.strip().splitlines()[-1].removeprefix(prefix))


def one_line(error: BaseException) -> str:
    """Return the first sentence of an error's message, or the name of its class if the message is empty."""
    lines = str(error).strip().splitlines()
    # The second one is advice of numpy to trust pickles.
    return lines[0].split(". ")[0].rstrip(".") if lines else type(error).__name__


def require(files: str, library: str) -> None:
    """Check that the library that reads files of a kind is installed."""
    if find_spec(library) is None:
        raise DataFileError(f"reading {files} files needs {library}: pip install 'shortcut-snn[events]'")


def missing_root(path: Path, wanted: str) -> FileNotFoundError:
    """Return the error for a ``root`` that is not the file or the folder that is wanted."""
    if not path.exists():
        return FileNotFoundError(f"data.root: the {wanted} {path} does not exist")
    is_folder = path.is_dir()
    kinds = "folder or events for class folders" if is_folder else "npz or events_npz for an archive"
    return FileNotFoundError(f"data.root: {path} is a {'folder' if is_folder else 'file'}; set data.kind to {kinds}")


def read_npz(path: str | Path, required: Sequence[str], optional: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
    """Return the named arrays of an archive."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            if len(set(archive.files)) < len(archive.files):
                raise ValueError("it has two arrays with the same name")
            missing = [name for name in required if name not in archive]
            arrays = {name: archive[name] for name in (*required, *optional) if name in archive}
    # The error that numpy and zipfile raise depends on where the file is damaged.
    except Exception as error:
        raise DataFileError(f"{path} is not a readable .npz archive of plain arrays: {one_line(error)}") from error
    if missing:
        raise DataFileError(f"{path} lacks {', '.join(missing)}; an archive needs {', '.join(required)}")
    return arrays
