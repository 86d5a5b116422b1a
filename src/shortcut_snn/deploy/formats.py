"""The formats there are: how each is written, and what runs it again."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..nets import SpikingNetwork
from .describe import Description
from .network_file import read_folded, write_folded
from .nir_file import write_nir
from .nir_graph import nir_graph
from .nir_runtime import NirRuntime
from .onnx_file import write_onnx
from .onnx_runtime import OnnxRuntime
from .program import make_program
from .runtime import Runtime
from .torch_export import ProgramRuntime, write_program
from .torch_runtime import TorchRuntime

Make = Callable[[SpikingNetwork, Description, Path, bool], Runtime]


@dataclass(frozen=True)
class Format:
    """A format.

    Args:
        file: name of the file.
        streamed: name of the file of a single time step; None where every file runs step by step.
        make: from a folded network, what it is, a path and whether it is to be a single time step, to the file at the
            path; returns what runs that file.
        says: what the file is, for the card.
    """

    file: str
    streamed: str | None
    make: Make
    says: str


def _safetensors(network: SpikingNetwork, about: Description, path: Path, streaming: bool) -> Runtime:
    write_folded(network, about, path)
    return TorchRuntime(*read_folded(path))


def _onnx(network: SpikingNetwork, about: Description, path: Path, streaming: bool) -> Runtime:
    write_onnx(make_program(network, about, streaming), about, path)
    return OnnxRuntime(path)


def _torch_export(network: SpikingNetwork, about: Description, path: Path, streaming: bool) -> Runtime:
    program = make_program(network, about, streaming)
    write_program(program, path)
    return ProgramRuntime(path, program, about)


def _nir(network: SpikingNetwork, about: Description, path: Path, streaming: bool) -> Runtime:
    write_nir(nir_graph(network, about), path)
    return NirRuntime(path)


FORMATS = {
    "safetensors": Format("network.safetensors", None, _safetensors, "weights with batch norms folded in, for load()"),
    "onnx": Format("network.onnx", "network-step.onnx", _onnx, "graph for onnxruntime and others"),
    "nir": Format("network.nir", None, _nir, "graph of one time step for simulators and neuromorphic hardware"),
    "torch-export": Format("network.pt2", "network-step.pt2", _torch_export, "program for torch.export.load()"),
}


def file_name(to: str, streaming: bool) -> str:
    """Return the name of a format's file.

    Raises:
        ValueError: an unknown format, or one that has no file of a single time step.
    """
    if to not in FORMATS:
        raise ValueError(f"unknown format {to!r}: use one of {', '.join(FORMATS)}")
    name = FORMATS[to].streamed if streaming else FORMATS[to].file
    if name is None:
        raise ValueError(f"--streaming: a network in {to} runs step by step as it is; leave it out")
    return name
