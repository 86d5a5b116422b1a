"""Safetensors files: the weights of a network and a JSON object about it; no code."""

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
    """Write a network's state, a JSON object about it, and a hash of both."""
    # Copies, since safetensors refuses tensors that share memory, such as tied weights.
    state = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in network.state_dict().items()
    }
    # One metadata entry: safetensors writes several entries in an order that changes from file to file.
    metadata = {"about": json.dumps({**about, _DIGEST: _digest(state, about)})}
    with replacing(path) as temporary:
        # Not save_file, which reports a full disk as a serialisation error.
        temporary.write_bytes(save(state, metadata=metadata))


def _digest(state: Mapping[str, Tensor], about: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def read_network(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the state and the JSON object of a file that :func:`save_network` wrote."""
    if not path.is_file():
        raise FileNotFoundError(f"no network file {path}")
    try:
        with safe_open(path, framework="pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
            about = json.loads((file.metadata() or {}).get("about", "{}"))
    except (SafetensorError, ValueError, OSError, RecursionError) as error:
        raise ValueError(f"{path} is not a complete safetensors file: {' '.join(str(error).split())}") from None
    if not isinstance(about, dict):
        raise ValueError(f"{path} was not written by shortcut-snn: its metadata is not an object")
    # A file that other code wrote may lack a hash.
    if about.pop(_DIGEST, None) not in (None, _digest(state, about)):
        raise ValueError(f"{path} is damaged: its contents differ from what was written")
    return state, about


def load_into(network: nn.Module, state: Mapping[str, Tensor], path: Path, assign: bool = False) -> None:
    """Load the state of a file into a network of the same names and shapes.

    Args:
        assign: let the network take the tensors themselves, not their values.
    """
    try:
        network.load_state_dict(dict(state), assign=assign)
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit the network: {' '.join(str(error).split())[:300]}") from None
