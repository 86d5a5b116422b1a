"""Folders whose names are classes: what lies in them, in an order that every machine agrees on."""

import os
from collections.abc import Collection, Iterator
from pathlib import Path

_TRAINING = frozenset({"train", "training"})
_PARTS = _TRAINING | {"test", "testing", "val", "valid", "validation"}


def class_names(folder: Path) -> list[str]:
    """Return the names of the folders in ``folder``, sorted, but for hidden ones.

    Raises:
        FileNotFoundError: there are none.
    """
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise FileNotFoundError(f"data.root: {folder} has no class folders")
    return names


def check_same(root: Path, names: list[str], part: str, train: str = "train") -> None:
    """Make sure that the folder ``part`` in ``root`` has the training folder's classes.

    Raises:
        ValueError: it has not; the message names a class that is in one of them alone.
    """
    others = class_names(root / part)
    odd = sorted(set(names) ^ set(others))
    if odd:
        where, lacking = (train, part) if odd[0] in names else (part, train)
        raise ValueError(f"{root}: {where} has a class {odd[0]!r} that {lacking} has not")


def classes_and_parts(root: Path) -> tuple[list[str], list[str]]:
    """Return the classes of a data folder and the names of its parts.

    These are train, the test set, and the validation set if there is one; none where the folder holds the class folders
    itself. With train/ and val/ but no test/, as ImageNet has it, val/ is the test set.

    Raises:
        FileNotFoundError: a folder is missing.
        ValueError: the parts do not have the same classes, or a symbolic link makes two of one folder.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"data.root: there is no folder {root}")
    if not (root / "train").is_dir():
        names = class_names(root)
        parts = [name for name in names if name.lower() in _PARTS]
        # A class may well be called test, but not one training beside it.
        if len(parts) == len(names) or len({name.lower() in _TRAINING for name in parts}) == 2:
            raise ValueError(
                f"data.root: {root} has the folders {', '.join(parts)}, which are no classes: name them train, "
                "test and val, in small letters"
            )
        return names, []
    odd = [name for name in class_names(root) if name.lower() in _PARTS and name not in ("train", "test", "val")]
    if odd:
        raise ValueError(
            f"data.root: {root} has a folder {odd[0]} beside train, which would be passed over: name the parts train, "
            "test and val, in small letters"
        )
    others = [name for name in ("test", "val") if (root / name).is_dir()]
    if not others:
        raise FileNotFoundError(f"data.root: {root} has a folder train but neither test nor val")
    names = class_names(root / "train")
    for part in others:
        check_same(root, names, part)
    seen: dict[str, Path] = {}
    for place in (root / part / name for part in ("train", *others) for name in names):
        # The same samples for training and test would make any network look good.
        other = seen.setdefault(os.path.realpath(place), place)
        if other is not place:
            raise ValueError(f"data.root: {place} leads to the same folder as {other}; remove the symbolic link")
    return names, ["train", *others]


def labelled_files(
    folder: Path, names: list[str], extensions: Collection[str], what: str
) -> tuple[list[str], list[int]]:
    """Return the files with one of the extensions below each class folder, class by class, by name, and their labels.

    Raises:
        FileNotFoundError: a class folder has none; ``what`` says of what.
        ValueError: a symbolic link leads to a folder whose files are there already.
    """
    seen: dict[str, str] = {}
    paths: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(names):
        files = sorted(_files(folder / name, extensions, seen))
        if not files:
            kinds = ", ".join(sorted(extensions))
            raise FileNotFoundError(f"data.root: class folder {folder / name} has no {what} ({kinds})")
        paths += files
        labels += [label] * len(files)
    return paths, labels


def _files(folder: Path, extensions: Collection[str], seen: dict[str, str]) -> Iterator[str]:
    for place, folders, names in os.walk(folder, followlinks=True):
        other = seen.setdefault(os.path.realpath(place), place)
        if other is not place:
            raise ValueError(f"data.root: {place} leads to the same folder as {other}; remove the symbolic link")
        # A name that starts with a dot is a system's or a program's note on other files, not a sample.
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            if os.path.splitext(name)[1].lower() in extensions and not name.startswith("."):
                yield os.path.join(place, name)
