"""Networks as safetensors: weights and a few words about them, no code."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ..files import replacing


def save_network(network: nn.Module, path: Path, about: Mapping[str, Any]) -> None:
    """Write a network's state and, as JSON in the file's metadata, what is said about it."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    with replacing(path) as temporary:
        # Not by save_file, which says of a full disk that serialising failed.
        temporary.write_bytes(save(state, metadata={"about": json.dumps(about)}))


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
    except (SafetensorError, ValueError, OSError) as error:
        raise ValueError(f"{path} is not a whole safetensors file: {error}") from None
    if not isinstance(about, dict):
        raise ValueError(f"{path} was not written by shortcut-snn: its metadata is not an object")
    return state, about


def load_into(network: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Load a state into a network of the same shape.

    Raises:
        ValueError: names or shapes differ; the message names the first ones.
    """
    own = network.state_dict()
    missing, foreign = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    shapes = [name for name in own.keys() & state.keys() if own[name].shape != state[name].shape]
    if missing or foreign or shapes:
        parts = {"missing": missing, "not in the network": foreign, "of another shape": sorted(shapes)}
        said = "; ".join(f"{what}: {', '.join(names[:3])}" for what, names in parts.items() if names)
        raise ValueError(f"{path} does not fit the network ({said})")
    network.load_state_dict(dict(state))
