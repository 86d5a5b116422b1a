"""Programs of ``torch.export``: they run in torch without this package."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from .. import components
from ..files import replacing
from .exporter import Exporter, Logits, mean_over_steps
from .graph import input_dtype, make_graph
from .spec import NetworkSpec


@components.exporter("torch-export")
@dataclass(frozen=True)
class TorchExport(Exporter):
    """A program of torch.export.

    Args:
        streaming: write one time step, whose membrane potentials are inputs and outputs.
    """

    streaming: bool = False

    summary = "program for torch.export.load()"

    @property
    def file(self) -> str:
        """Name of the file."""
        return "network-step.pt2" if self.streaming else "network.pt2"

    def export(self, network: nn.Module, spec: NetworkSpec, path: Path) -> Logits:
        """Write the file and return a function that runs it; see :meth:`.Exporter.export`."""
        program = make_graph(network, spec, self.streaming).program
        for module in program.graph_module.modules():
            for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
                # It holds paths of this machine.
                node.meta.pop("stack_trace", None)
        with replacing(path) as temporary:
            torch.export.save(program, temporary)
        return program_logits(path, spec)


def program_logits(path: Path, spec: NetworkSpec) -> Logits:
    """Return a function that runs a ``.pt2`` file.

    Args:
        path: a trusted file: torch gives no guarantee for others.
        spec: the network's specification.
    """
    program = torch.export.load(path)
    module, (_, *state) = program.module(), program.example_inputs[0]

    @torch.inference_mode()
    def run(images: Tensor, state: Sequence[Tensor] = ()) -> Sequence[Tensor]:
        outputs: tuple[Tensor, ...] = module(images.to(input_dtype(spec)), *state)
        return outputs

    if state:
        return mean_over_steps(run, [potential.shape[1:] for potential in state], spec)
    return lambda images: run(images)[0]
