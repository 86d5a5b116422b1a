"""Trained networks: opened by path, by the name of one of this package, or from the Hugging Face hub."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import torch

from ..components import suggestion
from .card import Card, read_card
from .hub import fetch
from .inference import Inference, Precision
from .safetensors_export import Safetensors, read_folded

WEIGHTS = Safetensors.file
TRAINED = Path(__file__).parents[1] / "trained"
"""Networks that come with the package: one folder each, as ``shortcut-snn export`` writes it."""
_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
_OTHER_READERS = {".onnx": "onnxruntime", ".nir": "nirtorch", ".pt2": "torch.export.load, if you trust the file"}


def names() -> list[str]:
    """Return the names of the networks that come with the package.

    Example:
        >>> from shortcut_snn import load
        >>> from shortcut_snn.deploy import card, names
        >>> "digits-resnet18" in names(), load("digits-resnet18").classes[:3], card("digits-resnet18").data["name"]
        (True, ('0', '1', '2'), "scikit-learn's digits")
    """
    return sorted(path.parent.name for path in TRAINED.glob(f"*/{WEIGHTS}"))


def find(name: str | Path, revision: str | None = None) -> Path:
    """Return the file or folder of a network; fetch a network of the hub.

    A path to a network comes first, then a name, then any other path, then a repository of the hub.

    Raises:
        FileNotFoundError: no network has this name; the message lists the names.
        OSError: the hub cannot be reached, or huggingface_hub is not installed.
    """
    path = Path(name)
    if path.is_file() or (path / WEIGHTS).is_file():
        return path
    if str(name) in names():
        return TRAINED / name
    if path.exists():
        return path
    # If the first part is a folder here, the name is a mistyped path, which is not sent to the hub.
    if _REPOSITORY.fullmatch(str(name)) and path.suffix != ".safetensors" and not path.parent.is_dir():
        return fetch(str(name), revision)
    raise FileNotFoundError(
        f"no network {str(name)!r}{suggestion(str(name), names())}: it is not a path, and this package has: "
        f"{', '.join(names())}"
    )


def card(name: str | Path, revision: str | None = None) -> Card:
    """Return the card of a network; the arguments are those of :func:`load`.

    Raises:
        FileNotFoundError: the network does not exist, or has no card.
        OSError: the hub cannot be reached, or huggingface_hub is not installed.
        ValueError: the card is damaged.

    Example:
        >>> card("digits-resnet18").data["name"]
        "scikit-learn's digits"
    """
    path = find(name, revision)
    return read_card(path if path.is_dir() else path.parent)


@contextmanager
def _default_settings() -> Iterator[None]:
    """Build networks in float32 and outside of inference mode, whatever the caller has set."""
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.inference_mode(False):
            yield
    finally:
        torch.set_default_dtype(dtype)


@_default_settings()
def load(name: str | Path, revision: str | None = None, precision: Precision = "float32") -> Inference:
    """Return a trained network, ready to use.

    Args:
        name: a ``.safetensors`` file, the folder of a run or of an export, a name (see :func:`names`), or
            ``owner/name`` on the Hugging Face hub.
        revision: branch, tag or commit of a network on the hub.
        precision: ``"float32"``, or ``"bfloat16"`` on processors that support it.

    Raises:
        FileNotFoundError: the network does not exist.
        OSError: the hub cannot be reached, or huggingface_hub is not installed.
        ValueError: the file is damaged, or of another format.

    Example:
        >>> import torch
        >>> from shortcut_snn import load
        >>> network = load("digits-resnet18")
        >>> network.predict(torch.zeros(3, 1, 8, 8, dtype=torch.uint8)).shape
        torch.Size([3])
    """
    if precision not in get_args(Precision):
        raise ValueError(f"precision is one of {', '.join(get_args(Precision))}, got {precision!r}")
    path = find(name, revision)
    if path.is_dir():
        path = path / WEIGHTS
        if not path.is_file():
            raise FileNotFoundError(f"{path.parent} holds no {WEIGHTS}: it is not a finished run, nor an export")
    if path.suffix != ".safetensors":
        reader = f"; open it with {_OTHER_READERS[path.suffix]}" if path.suffix in _OTHER_READERS else ""
        raise ValueError(f"{path} is not a safetensors file{reader}")
    return Inference(*read_folded(path), precision)
