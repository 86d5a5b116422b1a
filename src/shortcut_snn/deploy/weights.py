"""Networks as safetensors: weights and a few words about them, no code."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ..files import replacing

_DIGEST = "sha256"


def save_network(network: nn.Module, path: Path, about: Mapping[str, Any]) -> None:
    """Write a network's state and, as JSON in the file's metadata, what is said about it; and a hash of both."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    # One entry of metadata: safetensors writes several in an order that changes from file to file.
    said = json.dumps({**about, _DIGEST: _digest(state, about)})
    with replacing(path) as temporary:
        # Not by save_file, which says of a full disk that serialising failed.
        temporary.write_bytes(save(state, metadata={"about": said}))


def _digest(state: Mapping[str, Tensor], about: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(state):
        tensor = state[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def read_network(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the state and what is said about it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not a whole safetensors file of ours.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no network file {path}")
    try:
        with safe_open(path, framework="pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
            about = json.loads((file.metadata() or {}).get("about", "{}"))
        # Files of earlier versions carry no hash.
        damaged = isinstance(about, dict) and about.pop(_DIGEST, None) not in (None, _digest(state, about))
    except (SafetensorError, ValueError, OSError, RecursionError) as error:
        raise ValueError(f"{path} is not a whole safetensors file: {' '.join(str(error).split())}") from None
    if not isinstance(about, dict):
        raise ValueError(f"{path} was not written by shortcut-snn: its metadata is not an object")
    if damaged:
        raise ValueError(f"{path} is damaged: its contents are not those that were written")
    return state, about


def load_into(network: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Load a state into a network of the same shape.

    Raises:
        ValueError: names or shapes differ; the message names the first ones.
    """
    check_fits(network, state, path)
    network.load_state_dict(dict(state))


def check_fits(network: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Refuse a state that is not of a network's names and shapes.

    Raises:
        ValueError: the message names the first ones that differ.
    """
    own = network.state_dict()
    missing, foreign = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    shapes = [name for name in own.keys() & state.keys() if own[name].shape != state[name].shape]
    if missing or foreign or shapes:
        parts = {"missing": missing, "not in the network": foreign, "of another shape": sorted(shapes)}
        said = "; ".join(f"{what}: {', '.join(names[:3])}" for what, names in parts.items() if names)
        raise ValueError(f"{path} does not fit the network ({said})")
