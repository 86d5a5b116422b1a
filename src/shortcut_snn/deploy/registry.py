"""Trained networks by name: the user's, those of this package, and those of the Hugging Face hub."""

import os
import re
from pathlib import Path

from ..components import suggestion
from .card import Card, read_card
from .hub import fetch
from .safetensors_export import Safetensors

MODELS_VARIABLE = "SHORTCUT_SNN_MODELS"
WEIGHTS = Safetensors.file
TRAINED = Path(__file__).parents[1] / "trained"
"""Networks that come with the package: one folder each, as ``shortcut-snn export`` writes it."""
_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")


def models_folder() -> Path:
    """Return the folder of the user's networks: ``SHORTCUT_SNN_MODELS``, or ``~/.cache/shortcut-snn/models``."""
    return Path(os.environ.get(MODELS_VARIABLE) or Path.home() / ".cache" / "shortcut-snn" / "models")


def _roots(root: str | Path | None) -> list[Path]:
    """Return the folders that hold named networks; a name in an earlier folder hides one in a later folder."""
    return [models_folder(), TRAINED] if root is None else [Path(root)]


def names(root: str | Path | None = None) -> list[str]:
    """Return the names of the networks in a folder; by default of the user's networks and those of this package.

    Example:
        >>> from shortcut_snn import load
        >>> from shortcut_snn.deploy import card, names
        >>> "digits-resnet18" in names(), load("digits-resnet18").classes[:3], card("digits-resnet18").data["name"]
        (True, ('0', '1', '2'), "scikit-learn's digits")
    """
    return sorted({path.parent.name for folder in _roots(root) for path in folder.glob(f"*/{WEIGHTS}")})


def find(name: str | Path, root: str | Path | None = None, revision: str | None = None) -> Path:
    """Return the file or folder of a network; fetch a network of the hub.

    A path to a network comes first, then a name, then any other path, then a repository of the hub.

    Raises:
        FileNotFoundError: no network has this name; the message lists the names.
        OSError: the hub cannot be reached, or huggingface_hub is not installed.
    """
    path = Path(name)
    if path.is_file() or (path / WEIGHTS).is_file():
        return path
    if not path.is_absolute() and path.parts and ".." not in path.parts:
        for folder in _roots(root):
            if (folder / path / WEIGHTS).is_file():
                return folder / path
    if path.exists():
        return path
    # If the first part is a folder here, the name is a mistyped path, which is not sent to the hub.
    if _REPOSITORY.fullmatch(str(name)) and path.suffix != ".safetensors" and not path.parent.is_dir():
        return fetch(str(name), revision)
    options = names(root)
    where = " and ".join("this package" if folder == TRAINED else str(folder) for folder in _roots(root))
    raise FileNotFoundError(
        f"no network {str(name)!r}{suggestion(str(name), options)}: it is not a path, and {where} has: "
        f"{', '.join(options) or 'none'}"
    )


def card(name: str | Path, root: str | Path | None = None, revision: str | None = None) -> Card:
    """Return the card of a network; the arguments are those of :func:`load`.

    Raises:
        FileNotFoundError: the network does not exist, or has no card.
        OSError: the hub cannot be reached, or huggingface_hub is not installed.
        ValueError: the card is damaged.
    """
    path = find(name, root, revision)
    return read_card(path if path.is_dir() else path.parent)
