"""Data sets in class folders: the names of the classes, of the parts, and the files, in the same order everywhere."""

import os
from collections.abc import Collection
from pathlib import Path

from .reading import missing_root

_PARTS = ("train", "test", "val")
_PART_NAMES = frozenset({*_PARTS, "training", "testing", "valid", "validation"})


def class_names(folder: Path) -> list[str]:
    """Return the sorted names of the folders in ``folder``, except hidden ones."""
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise FileNotFoundError(f"data.root: {folder} has no class folders")
    return names


def check_same_classes(root: Path, train: str, part: str) -> None:
    """Check that two parts of a data set have the same class folders."""
    training, other = class_names(root / train), class_names(root / part)
    unmatched = sorted(set(training) ^ set(other))
    if unmatched:
        having, lacking = (train, part) if unmatched[0] in training else (part, train)
        raise ValueError(f"{root}: {having} has a class {unmatched[0]!r} that {lacking} does not have")


def classes_and_parts(root: Path) -> tuple[list[str], list[str]]:
    """Return the classes of a data folder and its parts: train, the test set and perhaps the validation set.

    The only part is the folder itself if it holds the class folders. With train/ and val/ but no test/, as in
    ImageNet, val/ is the test set.
    """
    if not root.is_dir():
        raise missing_root(root, "folder")
    folders = class_names(root)
    has_parts = "train" in folders
    misnamed = [name for name in folders if name.lower() in _PART_NAMES and not (has_parts and name in _PARTS)]
    training = [name for name in misnamed if name.lower() in ("train", "training")]
    # A class may be called test, but a class called Train next to it is a part.
    if misnamed and (has_parts or len(misnamed) == len(folders) or 0 < len(training) < len(misnamed)):
        raise ValueError(f"data.root: {root} must call its parts train, test and val, got {', '.join(misnamed)}")
    if not has_parts:
        return folders, ["."]
    evaluation = [name for name in ("test", "val") if name in folders]
    if not evaluation:
        raise FileNotFoundError(f"data.root: {root} has a folder train but neither test nor val")
    for part in evaluation:
        check_same_classes(root, "train", part)
    return class_names(root / "train"), ["train", *evaluation]


def labelled_files(
    folder: Path, classes: list[str], extensions: Collection[str], noun: str
) -> tuple[list[str], list[int]]:
    """Return the files below each class folder, class by class and sorted by path, and their labels."""
    paths: list[str] = []
    labels: list[int] = []
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
            path = os.path.join(parent, name)
            # A pipe or a device may never end.
            if os.path.splitext(name)[1].lower() in extensions and not name.startswith(".") and os.path.isfile(path):
                paths.append(path)
    return sorted(paths)
