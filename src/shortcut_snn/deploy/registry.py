"""Trained networks: opened by path, by name, or from the Hugging Face hub."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from .._utils.files import expanded
from ..components.registry import suggestion
from ..nets.options import check_choice
from .card import CARD, WEIGHTS, Card, read_card
from .exporter import require
from .inference import Inference, Precision
from .safetensors_files import read_inference


def fetch(repository: str, file: str, revision: str | None = None) -> Path:
    """Fetch a file of a network into a cache, and return its path; without an answer, the one fetched before."""
    hub = require("huggingface_hub", "the Hugging Face hub", "hub")
    try:
        return Path(hub.hf_hub_download(repository, file, revision=revision))
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise OSError(f"{repository} cannot be fetched from the Hugging Face hub: {reason}") from None


TRAINED = Path(__file__).parents[1] / "trained"  # networks that come with the package, each in a folder of an export
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


def find(name: str | Path, file: str, revision: str | None = None) -> Path:
    """Return the file or folder of a network; fetch one file of a network of the hub.

    A path to a network comes first, then a name, then any other path, then a repository of the hub.
    """
    path = expanded(name)
    if path.is_file() or (path / WEIGHTS).is_file():
        return path
    if str(name) in names():
        return TRAINED / name
    if path.exists():
        return path
    # If the first part is a folder here, the name is a mistyped path, which is not sent to the hub.
    if _REPOSITORY.fullmatch(str(name)) and path.suffix != ".safetensors" and not path.parent.is_dir():
        return fetch(str(name), file, revision).parent
    missing = f"no network {str(name)!r}{suggestion(str(name), names())}"
    raise FileNotFoundError(f"{missing}: it is not a path, and this package has: {', '.join(names())}")


def card(name: str | Path) -> Card:
    """Return the card of a network; ``name`` is that of :func:`load`.

    Raises:
        FileNotFoundError: the network does not exist, or has no card.
        OSError: the hub cannot be reached, or huggingface_hub is not installed.
        ValueError: the card is damaged.

    Example:
        >>> card("digits-resnet18").data["name"]
        "scikit-learn's digits"
    """
    path = find(name, CARD)
    return read_card(path if path.is_dir() else path.parent)


@contextmanager
def _default_settings() -> Iterator[None]:
    """Build networks in float32, on the CPU and outside of inference mode, whatever the caller has set."""
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.inference_mode(False), torch.device("cpu"):
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
    check_choice("precision", precision, Precision)
    path = find(name, WEIGHTS, revision)
    if path.is_dir():
        path = path / WEIGHTS
        if not path.is_file():
            raise FileNotFoundError(f"{path.parent} holds no {WEIGHTS}: it is not a finished run, nor an export")
    if path.suffix != ".safetensors":
        reader = f"; open it with {_OTHER_READERS[path.suffix]}" if path.suffix in _OTHER_READERS else ""
        raise ValueError(f"{path} is not a safetensors file{reader}")
    return read_inference(path, precision)
