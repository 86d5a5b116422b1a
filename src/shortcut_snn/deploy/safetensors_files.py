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
from ..components.entries import read, write
from .anytime import Exits
from .card import WEIGHTS
from .exporter import Exporter, Logits
from .folding import fold
from .inference import Inference, Precision
from .spec import MAX_NUMBER, NetworkSpec

_DIGEST = "sha256"
_BRANCH = "branch:"  # begins the names of tensors that belong to a branch; no path of a module has a colon


def save_network(
    network: nn.Module, path: Path, about: Mapping[str, Any], branches: Mapping[str, nn.Module] | None = None
) -> None:
    """Write a network's state, with the heads of branches by their taps, a JSON object about it, and a hash of both."""
    state = network.state_dict()
    for tap, head in (branches or {}).items():
        state |= {f"{_BRANCH}{tap}:{name}": tensor for name, tensor in head.state_dict().items()}
    save_tensors(state, path, about)


def save_tensors(tensors: Mapping[str, Tensor], path: Path, about: Mapping[str, Any]) -> None:
    """Write tensors, a JSON object about them, and a hash of both."""
    # Copies, since safetensors refuses tensors that share memory, such as tied weights.
    state = {name: x.detach().cpu().clone(memory_format=torch.contiguous_format) for name, x in tensors.items()}
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
    """Return the network's state and the JSON object of a file that :func:`save_network` wrote."""
    state, about = _read(path)
    return {name: tensor for name, tensor in state.items() if not name.startswith(_BRANCH)}, about


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
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
        problem = f"{path} does not fit the network: it holds another one than the recipe builds"
        raise ValueError(f"{problem}; use its run's recipe ({' '.join(str(error).split())[:150]})") from None


_FOLDED, _BRANCHES, _EXITS = "folded", "branches", "exits"


@components.exporter("safetensors")
@dataclass(frozen=True)
class Safetensors(Exporter):
    """Weights with batch norms folded in, and the specification by which ``load`` rebuilds the network.

    Args:
        half: store weights in half precision, in half the file; the network computes in float32 all the same.
    """

    half: bool = False

    file = WEIGHTS

    def rounded(self, network: nn.Module, spec: NetworkSpec, example: Tensor) -> nn.Module:
        """Return a copy with the values of half-precision weights, if ``half`` is set."""
        return copy.deepcopy(network).half().float() if self.half else network

    def export(self, network: nn.Module, spec: NetworkSpec, path: Path) -> Logits:
        """Write the file and return a function that runs it; see :meth:`.Exporter.export`."""
        network = copy.deepcopy(network).half() if self.half else network
        save_network(network, path, {**spec.to_dict(), _FOLDED: True})
        return read_inference(path).logits


def read_inference(path: Path, precision: Precision = "float32") -> Inference:
    """Return the network of a run's or an exported safetensors file, with the branches and exits that it kept."""
    state, about = _read(path)
    network, spec = _folded(path, state, about)
    try:
        exits = None if about.get(_EXITS) is None else read(Exits, about[_EXITS], _EXITS)
        branches = _read_branches(state, about.get(_BRANCHES) or {}, len(spec.inputs.classes), network)
    except (ValueError, RuntimeError, AttributeError) as error:
        raise ValueError(f"{path} does not describe its branches: {' '.join(str(error).split())[:300]}") from None
    return Inference(network, spec, precision, branches=branches, exits=exits)


def describe_branches(branches: Mapping[str, nn.Module], head: Any, classes: int) -> dict[str, Any]:
    """Return how to build the heads of branches again, for the JSON object of a file.

    Raises ``ValueError`` if a head is not what the recipe's entry ``head`` builds; None is the default head.
    """
    channels = {}
    for tap, branch in branches.items():
        channels[tap] = next((parameter.shape[1] for parameter in branch.parameters() if parameter.dim() > 1), 0)
        expected, actual = (
            {name: tensor.shape for name, tensor in each.state_dict().items()}
            for each in (_make_head(head or "linear", channels[tap], classes), branch)
        )
        if expected != actual:
            reason = f"method.branches.head does not name its {type(branch).__name__}"
            raise ValueError(f"the branch at {tap} cannot be kept: {reason}; register this head and name it there")
    return {_BRANCHES: {"head": write(head), "channels": channels}} if branches else {}


def _make_head(entry: Any, channels: int, classes: int) -> nn.Module:
    make = read(components.head, entry, "head") if isinstance(entry, str | Mapping) else entry
    with _build_device(make):
        head: nn.Module = make(channels, classes)
    return head


def _build_device(*parts: Any) -> torch.device:
    """Return the device on which to build a network or a head whose values a file holds.

    On the meta device nothing is allocated before names and shapes are known to be right. The user's own code may
    compute with tensors while it builds, or keep some that the file does not hold.
    """
    return torch.device("meta" if all(components.component_of(part).is_built_in for part in parts) else "cpu")


def _read_branches(
    state: Mapping[str, Tensor], about: Mapping[str, Any], classes: int, network: nn.Module
) -> dict[str, nn.Module]:
    branches: dict[str, nn.Module] = {}
    for tap, channels in (about.get("channels") or {}).items():
        network.get_submodule(tap)
        if not isinstance(channels, int) or not 0 < channels <= MAX_NUMBER:
            raise ValueError(f"the branch at {tap} has {channels} channels")
        head, prefix = _make_head(about.get("head") or "linear", channels, classes), f"{_BRANCH}{tap}:"
        own = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
        head.load_state_dict(own, assign=True)
        branches[tap] = head.eval().requires_grad_(False)
    return branches


def store_exits(path: Path, exits: Exits) -> None:
    """Write the thresholds of a network into its file."""
    state, about = _read(path)
    save_tensors(state, path, {**about, _EXITS: exits.to_dict()})


def copy_branches(source: Path, target: Path, with_exits: bool) -> None:
    """Write the branches, and on demand the thresholds, in one network's file into another file of the network."""
    (kept, about), (state, own) = _read(source), _read(target)
    kept = {name: tensor for name, tensor in kept.items() if name.startswith(_BRANCH)}
    entries = {name: about[name] for name in (_BRANCHES, _EXITS) if name in about and (with_exits or name != _EXITS)}
    save_tensors({**state, **kept}, target, {**own, **entries})


def read_folded(path: Path) -> tuple[nn.Module, NetworkSpec]:
    """Return the folded network and the specification of a run's or an exported safetensors file.

    The file may come from an untrusted source: names, shapes, types and values are checked, and it holds no code.
    """
    return _folded(path, *_read(path))


def _folded(path: Path, state: Mapping[str, Tensor], entries: Mapping[str, Any]) -> tuple[nn.Module, NetworkSpec]:
    is_folded = entries.get(_FOLDED) is True
    try:
        spec = NetworkSpec.from_dict(entries)
        with _build_device(spec.network, spec.neuron):
            network, example = spec.build().eval(), spec.example()
            network = fold(network, example) if is_folded else network
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{path} does not describe a network: {' '.join(str(error).split())}") from None
    dtypes = {name: tensor.dtype for name, tensor in network.state_dict().items()}
    own = {
        name: tensor.float() if tensor.dtype == torch.float16 else tensor
        for name, tensor in state.items()
        if not name.startswith(_BRANCH)
    }
    load_into(network, own, path, assign=True)
    weights = dict(network.named_parameters())
    for name, tensor in network.state_dict().items():
        if tensor.dtype != dtypes[name]:
            raise ValueError(f"{path} does not fit the network: {name} has the type {tensor.dtype}")
        # A buffer may be a mask of infinite values.
        if (~torch.isfinite(tensor) if name in weights else tensor.isnan()).any():
            raise ValueError(f"{path} is damaged: {name} holds values that are not finite")
    return network.requires_grad_(False) if is_folded else fold(network, example), spec
