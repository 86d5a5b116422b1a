"""Networks out of safetensors files: those of a run, and folded ones."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn

from .. import components
from ..machine import TooLarge
from ..nets.size import check_size
from .describe import Description
from .folding import fold
from .runtime import Runtime
from .torch_runtime import TorchRuntime
from .weights import check_fits, read_network, save_network

SUFFIX = ".safetensors"
ELSEWHERE = {".onnx": "onnxruntime", ".nir": "nirtorch", ".pt2": "torch.export.load, if you trust it"}
"""Formats that others open."""
FOLDED = "folded"
"""Under this key a file says that its batch norms are folded in."""


@components.exporter("safetensors")
@dataclass(frozen=True)
class Safetensors:
    """Weights, and what is needed to build the network again.

    Args:
        half: keep the weights in half precision, in half the file; a network computes in float32 all the same.
    """

    half: bool = False

    file: ClassVar[str] = f"network{SUFFIX}"
    streamed: ClassVar[str | None] = None
    says: ClassVar[str] = "weights with batch norms folded in, for load()"

    def make(self, network: nn.Module, about: Description, path: Path, streaming: bool) -> Runtime:
        """Write it; see :class:`~.runtime.Exporter`."""
        write_folded(network, about, path, self.half)
        return TorchRuntime(*read_folded(path))


def write_folded(network: nn.Module, about: Description, path: Path, half: bool = False) -> None:
    """Write a folded network and what is needed to build it again; with ``half``, floats as float16."""
    network = copy.deepcopy(network).half() if half else network
    save_network(network, path, {**about.to_dict(), FOLDED: True})


def read_folded(path: Path) -> tuple[nn.Module, Description]:
    """Return a network, ready for inference, from a file of either kind, and what it is.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or not one of a network that can be built here.
        TooLarge: so many time steps of so large images do not fit into this machine.
    """
    state, about = read_network(path)
    folded = about.get(FOLDED) is True
    try:
        described = Description.from_about(about)
        check_size(described.network, described.neuron, described.data)
        # Without memory: the file decides how much of it there is, once names and shapes are found to be right.
        with torch.device("meta"):
            network = described.build().eval()
            blank = described.blank()
            network = fold(network, blank) if folded else network
    except TooLarge as error:
        raise TooLarge(f"{path}: {error}") from None
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{path} does not say what network it holds: {' '.join(str(error).split())}") from None
    check_fits(network, state, path)
    owns = network.state_dict()
    state = {
        name: tensor.float() if (tensor.dtype, owns[name].dtype) == (torch.float16, torch.float32) else tensor
        for name, tensor in state.items()
    }
    wrong = [name for name, own in owns.items() if own.dtype != state[name].dtype]
    if wrong:
        raise ValueError(f"{path} does not fit the network ({wrong[0]} is of the type {state[wrong[0]].dtype})")
    bad = [name for name, tensor in state.items() if not torch.isfinite(tensor).all()]
    if bad:
        raise ValueError(f"{path} holds what is no number, in {bad[0]}")
    network.load_state_dict(state, assign=True)
    return (network.requires_grad_(False) if folded else fold(network, blank)), described
