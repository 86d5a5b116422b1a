"""Programs of ``torch.export``: they run in torch without this package."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .. import components
from ..files import replacing
from .graph import Graph, input_dtype, make_graph
from .runtime import Runtime, State, mean_logits
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
        return ProgramRuntime(path, spec)


def write_program(graph: Graph, path: Path) -> None:
    """Write a graph as a ``.pt2`` file."""
    for module in graph.program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            # It holds paths of this machine.
            node.meta.pop("stack_trace", None)
    with replacing(path) as temporary:
        torch.export.save(graph.program, temporary)


class ProgramRuntime:
    """A ``.pt2`` file in torch.

    Args:
        path: a trusted file: torch gives no guarantee for others.
        spec: the network's specification.
    """

    def __init__(self, path: Path, spec: NetworkSpec) -> None:
        program = torch.export.load(path)
        self.module, self.examples = program.module(), program.example_inputs[0]
        self.spec, self.streaming = spec, len(self.examples) > 1

    def logits(self, images: Tensor) -> Tensor:
        """Return logits; see :class:`~.runtime.Runtime`."""
        return mean_logits(self, images, self.spec.time_steps) if self.streaming else self._run(images)[0]

    def step(self, frame: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Return the logits and membrane potentials of one step; see :class:`~.runtime.Runtime`."""
        if not self.streaming:
            raise ValueError("this program runs whole sequences; export it with streaming to run single steps")
        if state is None:
            state = [torch.zeros(len(frame), *example.shape[1:]) for example in self.examples[1:]]
        logits, *after = self._run(frame, *state)
        return logits, after

    def _run(self, images: Tensor, *state: Any) -> tuple[Tensor, ...]:
        with torch.inference_mode():
            outputs: tuple[Tensor, ...] = self.module(images.to(input_dtype(self.spec)), *state)
        return outputs
