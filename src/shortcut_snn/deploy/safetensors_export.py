"""Safetensors files of networks: written by an export or a run, opened by :func:`~shortcut_snn.load`."""

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from .. import components
from .exporter import Exporter, Logits
from .folding import fold
from .inference import Inference
from .spec import NetworkSpec
from .weights import load_into, read_network, save_network

_FOLDED = "folded"


@components.exporter("safetensors")
@dataclass(frozen=True)
class Safetensors(Exporter):
    """Weights, and the specification to rebuild the network.

    Args:
        half: store weights in half precision, in half the file; the network computes in float32 all the same.
    """

    half: bool = False

    file = "network.safetensors"
    summary = "weights with batch norms folded in, for load()"

    def rounded(self, network: nn.Module, example: Tensor) -> nn.Module:
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

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is damaged, or describes a network that cannot be built.
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
