"""Trained networks by name: out of a folder of folders, or from the Hugging Face hub."""

import os
import re
from pathlib import Path

from .card import CARD, README, Card, read_card
from .extra import need
from .inference import ELSEWHERE, Inference, load_file
from .network_file import SUFFIX, Safetensors
from .torch_runtime import Precision

VARIABLE = "SHORTCUT_SNN_MODELS"
WEIGHTS = Safetensors.file
_HUB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")


def models_folder() -> Path:
    """Return the folder of named networks: ``SHORTCUT_SNN_MODELS``, or ``~/.cache/shortcut-snn/models``."""
    return Path(os.environ.get(VARIABLE) or Path.home() / ".cache" / "shortcut-snn" / "models")


def names(root: Path | None = None) -> list[str]:
    """Return the names of the networks in a folder of them."""
    root = root or models_folder()
    return sorted(path.parent.name for path in root.glob(f"*/{WEIGHTS}")) if root.is_dir() else []


def find(name: str | Path, root: Path | None = None, revision: str | None = None) -> Path:
    """Return the file, or the folder, that a name stands for; fetch it if it is one of the hub.

    Raises:
        FileNotFoundError: nothing has this name; the message lists those there are.
        OSError: the hub cannot be reached, or its client is not installed.
    """
    path = Path(name)
    if path.exists():
        return path
    named = (root or models_folder()) / name
    if not path.is_absolute() and ".." not in path.parts and named.is_dir():
        return named
    if path.suffix not in (SUFFIX, *ELSEWHERE) and _HUB_NAME.fullmatch(str(name)):
        return fetch(str(name), revision)
    known = ", ".join(names(root)) or "none"
    raise FileNotFoundError(
        f"no network {str(name)!r}: there is no such path, and in {named.parent} there are: {known}"
    )


def fetch(repository: str, revision: str | None = None) -> Path:
    """Fetch a network of the Hugging Face hub into its client's cache, and return the folder.

    Only the weights and the card are fetched; neither holds code.

    Args:
        repository: ``owner/name``.
        revision: branch, tag or commit; name a commit to get the same network for ever.

    Raises:
        OSError: huggingface_hub is not installed, or the network is not there or cannot be reached.
    """
    hub = need("huggingface_hub", "a network of the Hugging Face hub")
    errors = need("huggingface_hub.errors", "a network of the Hugging Face hub")
    try:
        folder = hub.snapshot_download(repository, revision=revision, allow_patterns=[WEIGHTS, CARD, README])
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, ValueError, OSError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise OSError(f"{repository} cannot be fetched from the Hugging Face hub: {first}") from None
    if not (Path(folder) / WEIGHTS).is_file():
        raise FileNotFoundError(f"{repository} on the Hugging Face hub holds no {WEIGHTS}")
    return Path(folder)


def load(
    name: str | Path, root: Path | None = None, revision: str | None = None, precision: Precision = "float32"
) -> Inference:
    """Return a trained network, ready to use.

    Args:
        name: a ``.safetensors`` file, a folder that holds ``network.safetensors`` (a run, or an
            export), the name of a folder in ``root``, or ``owner/name`` on the Hugging Face hub.
        root: folder of named networks; see :func:`models_folder`.
        revision: of a network of the hub.
        precision: ``"float32"``, or ``"bfloat16"`` on processors that have it.

    Raises:
        FileNotFoundError: there is no such network.
        OSError: the hub cannot be reached, or its client is not installed.
        ValueError: the file is damaged or not one of ours.
    """
    found = find(name, root, revision)
    return load_file(found / WEIGHTS if found.is_dir() else found, precision)


def card(name: str | Path, root: Path | None = None, revision: str | None = None) -> Card:
    """Return the card of a network: data, recipe, accuracy, and energy where it is known.

    Raises:
        FileNotFoundError: there is no such network, or it has no card.
        OSError: the hub cannot be reached, or its client is not installed.
        ValueError: the card is damaged.
    """
    found = find(name, root, revision)
    return read_card(found if found.is_dir() else found.parent)
