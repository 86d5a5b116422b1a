"""Programs of ``torch.export``: they run in torch without this package."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from .. import components
from ..files import replacing
from .graph import Graph, input_dtype, make_graph
from .runtime import FileRuntime, Runtime, State
from .spec import NetworkSpec


@components.exporter("torch-export")
@dataclass(frozen=True)
class TorchExport:
    """A program of torch.export."""

    file: ClassVar[str] = "network.pt2"
    step_file: ClassVar[str | None] = "network-step.pt2"
    summary: ClassVar[str] = "program for torch.export.load()"

    def export(self, network: nn.Module, spec: NetworkSpec, path: Path, streaming: bool) -> Runtime:
        """Write the file; see :class:`~.runtime.Exporter`."""
        write_program(make_graph(network, spec, streaming), path)
        return ProgramRuntime(path, spec, streaming)


def write_program(graph: Graph, path: Path) -> None:
    """Write a graph as a ``.pt2`` file."""
    for module in graph.program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            # It holds paths of this machine.
            node.meta.pop("stack_trace", None)
    with replacing(path) as temporary:
        torch.export.save(graph.program, temporary)


class ProgramRuntime(FileRuntime):
    """A ``.pt2`` file in torch.

    Args:
        path: a trusted file: torch gives no guarantee for others.
        spec: the network's specification.
        streaming: whether the file runs a single time step.
    """

    def __init__(self, path: Path, spec: NetworkSpec, streaming: bool) -> None:
        super().__init__(spec, streaming)
        program = torch.export.load(path)
        self.module, self.examples = program.module(), program.example_inputs[0]

    @torch.inference_mode()
    def run(self, images: Tensor, state: State | None) -> tuple[Tensor, ...]:
        """Return logits, and membrane potentials; see :class:`~.runtime.FileRuntime`."""
        if state is None:
            state = [torch.zeros(len(images), *example.shape[1:]) for example in self.examples[1:]]
        outputs: tuple[Tensor, ...] = self.module(images.to(input_dtype(self.spec)), *state)
        return outputs
