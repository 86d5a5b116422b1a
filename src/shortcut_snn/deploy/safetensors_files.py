"""Safetensors files: the weights of a network and a JSON object about it; no code. Runs and exports write them."""

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from .. import components
from .._utils.files import replacing
from .card import WEIGHTS
from .exporter import Exporter, Logits
from .folding import fold
from .inference import Inference
from .spec import NetworkSpec

_DIGEST = "sha256"


def save_network(network: nn.Module, path: Path, about: Mapping[str, Any]) -> None:
    """Write a network's state, a JSON object about it, and a hash of both."""
    save_tensors(network.state_dict(), path, about)


def save_tensors(tensors: Mapping[str, Tensor], path: Path, about: Mapping[str, Any]) -> None:
    """Write tensors, a JSON object about them, and a hash of both."""
    # Copies, since safetensors refuses tensors that share memory, such as tied weights.
    state = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
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
    """Load a state into a network of the same names and shapes; with ``assign`` it takes the tensors themselves."""
    try:
        network.load_state_dict(dict(state), assign=assign)
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit the network: {' '.join(str(error).split())[:300]}") from None


_FOLDED = "folded"


@components.exporter("safetensors")
@dataclass(frozen=True)
class Safetensors(Exporter):
    """Weights, and the specification to rebuild the network.

    Args:
        half: store weights in half precision, in half the file; the network computes in float32 all the same.
    """

    half: bool = False

    file = WEIGHTS
    summary = "weights with batch norms folded in, for load()"

    def rounded(self, network: nn.Module, spec: NetworkSpec, example: Tensor) -> nn.Module:
        """Return a copy with the values of half-precision weights, if ``half`` is set."""
        return copy.deepcopy(network).half().float() if self.half else network

    def export(self, network: nn.Module, spec: NetworkSpec, path: Path) -> Logits:
        """Write the file and return a function that runs it; see :meth:`.Exporter.export`."""
        network = copy.deepcopy(network).half() if self.half else network
        save_network(network, path, {**spec.to_dict(), _FOLDED: True})
        return Inference(*read_folded(path)).logits


def read_folded(path: Path) -> tuple[nn.Module, NetworkSpec]:
    """Return the folded network and the specification of a run's or an exported safetensors file.

    The file may come from an untrusted source: names, shapes, types and values are checked, and it holds no code.
    """
    state, entries = read_network(path)
    is_folded = entries.get(_FOLDED) is True
    try:
        spec = NetworkSpec.from_dict(entries)
        # On the meta device nothing is allocated before names and shapes are known to be right.
        with torch.device("meta"):
            network, example = spec.build().eval(), spec.example()
            network = fold(network, example) if is_folded else network
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{path} does not describe a network: {' '.join(str(error).split())}") from None
    dtypes = {name: tensor.dtype for name, tensor in network.state_dict().items()}
    state = {name: tensor.float() if tensor.dtype == torch.float16 else tensor for name, tensor in state.items()}
    load_into(network, state, path, assign=True)
    for name, tensor in network.state_dict().items():
        if tensor.dtype != dtypes[name]:
            raise ValueError(f"{path} does not fit the network: {name} has the type {tensor.dtype}")
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{path} is damaged: {name} holds values that are not finite")
    return network.requires_grad_(False) if is_folded else fold(network, example), spec
