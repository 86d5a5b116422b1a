"""Event sets on disk, or from where tonic finds them."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .formats.files import one_line

# tonic's class for each set, which is also the folder it makes, and the arguments for each part.
_TONIC: dict[str, tuple[str, tuple[dict[str, Any], ...]]] = {
    "nmnist": ("NMNIST", ({"train": True}, {"train": False})),
    "cifar10dvs": ("CIFAR10DVS", ({},)),
    "dvsgesture": ("DVSGesture", ({"train": True}, {"train": False})),
}


def find_or_download(root: Path, name: str, places: Sequence[str], content: Sequence[str], download: bool) -> Path:
    """Return the first of the places in ``root`` that has everything in ``content``, downloading the set if allowed.

    tonic's own classes are not asked to find a set: they want the archive that it came in beside it, and download it
    again otherwise.

    Raises:
        FileNotFoundError: there is none and ``download`` is false.
        ValueError: tonic is not installed, or the download failed.
    """
    found = find(root, places, content)
    if found is None and download:
        _download(root, name)
        found = find(root, places, content)
    if found is None:
        wanted = f"{content[0]} and {content[-1]}" if len(content) == 2 else f"{content[0]}, ... and {content[-1]}"
        raise FileNotFoundError(
            f"data.root: {root} has no {wanted}; set data.download=true to download {name}, or point data.root at the"
            " folder that holds them"
        )
    return found


def find(root: Path, places: Sequence[str], content: Sequence[str]) -> Path | None:
    """Return the first of the places in ``root`` that has everything in ``content``."""
    for place in places:
        if all((root / place / name).exists() for name in content):
            return root / place
    return None


def _download(root: Path, name: str) -> None:
    try:
        from tonic import datasets
    except ModuleNotFoundError as error:
        raise ValueError(f"downloading {name} needs tonic: pip install 'shortcut-snn[events]'") from error
    folder, parts = _TONIC[name]
    if (root / folder).exists():
        raise ValueError(f"{root / folder} is not a whole {name}; move it away to download the set")
    root.mkdir(parents=True, exist_ok=True)
    # Unpacked elsewhere and renamed, so that an interrupted download leaves nothing that looks like a data set.
    with tempfile.TemporaryDirectory(dir=root, prefix=".download-") as scratch:
        try:
            for arguments in parts:
                getattr(datasets, folder)(save_to=scratch, **arguments)
        # What tonic raises depends on whether the net, the archive or a checksum is at fault.
        except Exception as error:
            raise ValueError(f"{name} could not be downloaded to {root}: {one_line(error)}") from error
        (Path(scratch) / folder).rename(root / folder)
