"""Networks as programs of torch.export: they run wherever torch does, without this library."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .. import components
from ..files import replacing
from .describe import Description
from .program import Program, input_dtype, make_program
from .runtime import Runtime, State, by_steps
from .torch_runtime import spikes_of


def write_program(program: Program, path: Path) -> None:
    """Write a program as a ``.pt2`` file, whole or not at all."""
    for part in program.exported.graph_module.modules():
        for node in part.graph.nodes if isinstance(part, torch.fx.GraphModule) else ():
            # Paths of this machine.
            node.meta.pop("stack_trace", None)
    with replacing(path) as temporary:
        torch.export.save(program.exported, temporary)


class ProgramRuntime:
    """A ``.pt2`` file in torch. Open only files that you trust: torch does not say that they are safe.

    Args:
        path: of the file.
        program: what was written to it.
        about: what it is.
    """

    def __init__(self, path: Path, program: Program, about: Description) -> None:
        loaded = torch.export.load(path)
        self.module: Any = torch.export.unflatten(loaded)
        self.examples = loaded.example_inputs[0]
        self.program, self.about = program, about

    def _call(self, images: Tensor, *before: Tensor) -> tuple[Tensor, ...]:
        with torch.inference_mode():
            out: tuple[Tensor, ...] = self.module(images.to(input_dtype(self.about)), *before)
        return out

    def whole(self, images: Tensor) -> Tensor:
        """Return logits; see :class:`~.runtime.Runtime`."""
        if len(self.program.inputs) > 1:
            return by_steps(self, images, self.about.time_steps)
        return self._call(images)[0]

    def step(self, frame: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Return a step's logits and the membrane potentials; see :class:`~.runtime.Runtime`."""
        if state is None:
            state = [torch.zeros(len(frame), *value.shape[1:]) for value in self.examples[1:]]
        logits, *after = self._call(frame, *state)
        return logits, after

    def spikes(self, images: Tensor) -> dict[str, Tensor]:
        """Return every layer's spikes; see :class:`~.runtime.Runtime`."""
        layers = {name: self.module.get_submodule(f"{self.program.prefix}.{name}") for name in self.program.neurons}
        return spikes_of(layers, lambda: self.whole(images))


@components.exporter("torch-export")
@dataclass(frozen=True)
class TorchExport:
    """A program of torch.export."""

    file: ClassVar[str] = "network.pt2"
    streamed: ClassVar[str | None] = "network-step.pt2"
    says: ClassVar[str] = "program for torch.export.load()"

    def make(self, network: nn.Module, about: Description, path: Path, streaming: bool) -> Runtime:
        """Write it; see :class:`~.runtime.Exporter`."""
        program = make_program(network, about, streaming)
        write_program(program, path)
        return ProgramRuntime(path, program, about)
