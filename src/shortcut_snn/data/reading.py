"""Reading of files: errors about one file, numpy archives, and class folders, in the same order everywhere."""

import os
from collections.abc import Collection, Sequence
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


def class_names(folder: Path) -> list[str]:
    """Return the sorted names of the folders in ``folder``, except hidden ones."""
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise FileNotFoundError(f"data.root: {folder} has no class folders")
    return names


def common_classes(root: Path, train: str, *evaluation: str) -> list[str]:
    """Return the classes of a data set, all of whose parts must have the same class folders."""
    classes = class_names(root / train)
    for part in evaluation:
        if unmatched := sorted(set(classes) ^ set(class_names(root / part))):
            having, lacking = (train, part) if unmatched[0] in classes else (part, train)
            raise ValueError(f"{root}: {having} has a class {unmatched[0]!r} that {lacking} does not have")
    return classes


def classes_and_parts(root: Path) -> tuple[list[str], list[str]]:
    """Return the classes of a data folder and its parts: train, the test set and perhaps the validation set.

    The only part is the folder itself if it holds the class folders. With train/ and val/ but no test/, as in
    ImageNet, val/ is the test set.
    """
    if not root.is_dir():
        raise missing_root(root, "folder")
    folders = class_names(root)
    has_parts = "train" in folders
    names = {"train", "test", "val"}
    similar = {*names, "training", "testing", "valid", "validation"}
    misnamed = [name for name in folders if name.lower() in similar and not (has_parts and name in names)]
    training = [name for name in misnamed if name.lower() in ("train", "training")]
    # A class may be called test, but a class called Train next to it is a part.
    if misnamed and (has_parts or len(misnamed) == len(folders) or 0 < len(training) < len(misnamed)):
        raise ValueError(f"data.root: {root} must call its parts train, test and val, got {', '.join(misnamed)}")
    if not has_parts:
        return folders, ["."]
    evaluation = [name for name in ("test", "val") if name in folders]
    if not evaluation:
        raise FileNotFoundError(f"data.root: {root} has a folder train but neither test nor val")
    return common_classes(root, "train", *evaluation), ["train", *evaluation]


def labelled_files(
    folder: Path, classes: list[str], extensions: Collection[str], noun: str
) -> tuple[list[str], list[int]]:
    """Return the files below each class folder, class by class and sorted by path, and their labels."""
    paths, labels = [], []
    for label, name in enumerate(classes):
        files = visible_files(folder / name, extensions)
        if not files:
            raise FileNotFoundError(f"data.root: class folder {folder / name} has no {noun} ({listed(extensions)})")
        paths += files
        labels += [label] * len(files)
    return paths, labels


def listed(extensions: Collection[str]) -> str:
    """Return extensions as text, without those of HDF5, whose files are refused with advice."""
    return ", ".join(sorted({*extensions} - {".h5", ".hdf5"}))


def visible_files(folder: Path, extensions: Collection[str]) -> list[str]:
    """Return the sorted paths of all regular files below a folder with one of the extensions, except hidden ones."""
    paths, walked = [], set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        # A link may lead back to a folder above it.
        if (real := os.path.realpath(parent)) in walked:
            folders.clear()
            continue
        walked.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if os.path.splitext(name)[1].lower() in extensions and not name.startswith("."):
                paths.append(os.path.join(parent, name))
    # A pipe or a device may never end.
    return sorted(filter(os.path.isfile, paths))
