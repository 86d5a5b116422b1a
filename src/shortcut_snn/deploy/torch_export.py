"""Networks as ``torch.export`` graphs of plain operators, and files of these graphs, which run in torch alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from .. import components
from ..neurons import use_backend
from .exporter import Exporter, Logits, mean_over_steps
from .single_step import SingleStep
from .spec import NetworkSpec, Prepare


@dataclass(frozen=True)
class Graph:
    """A graph and the names of its inputs and outputs.

    A graph of one time step also takes a ``LAYER.before`` for each layer of neurons. It returns a ``TAP.logits`` for
    each kept branch, and a ``LAYER.after`` for each layer of neurons.
    """

    program: ExportedProgram
    inputs: tuple[str, ...] = ("images",)
    outputs: tuple[str, ...] = ("logits",)


class _Normalised(nn.Module):
    """Normalise images or a frame and run a network, or one time step of it."""

    def __init__(self, network: nn.Module, spec: NetworkSpec) -> None:
        super().__init__()
        self.prepare, self.network = Prepare(spec), network

    def forward(self, images: Tensor, *before: Tensor) -> tuple[Tensor, ...]:
        outputs = self.network(self.prepare(images), *before)
        return outputs if isinstance(outputs, tuple) else (outputs,)


def input_dtype(spec: NetworkSpec) -> torch.dtype:
    """Return the dtype of a graph's input: images are bytes, counts of events are floats."""
    return torch.uint8 if spec.inputs.kind == "static" else torch.float32


def make_graph(network: nn.Module, spec: NetworkSpec, streaming: bool) -> Graph:
    """Trace a folded network, or with ``streaming`` one time step of it, for batches of any size."""
    shape = spec.input_shape[-3:] if streaming else spec.input_shape
    images = torch.zeros(2, *shape, dtype=input_dtype(spec))
    single_step = SingleStep(network) if streaming else None
    module = _Normalised(single_step or network, spec).eval()
    with torch.no_grad(), use_backend("eager"):
        state = single_step.initial_state(module.prepare(images)) if single_step else ()
        batch = {0: Dim("batch", min=1)}
        shapes = {"images": batch, **({"before": tuple(batch for _ in state)} if state else {})}
        program = torch.export.export(
            module, (images, *state), dynamic_shapes=shapes, prefer_deferred_runtime_asserts_over_guards=True
        )
    if single_step is None:
        return Graph(program)
    names, exits = single_step.names, (f"{tap}.logits" for tap in single_step.taps)
    before, after = ([f"{name}.{when}" for name in names] for when in ("before", "after"))
    return Graph(program, ("frame", *before), ("logits", *exits, *after))


@components.exporter("torch-export")
@dataclass(frozen=True)
class TorchExport(Exporter):
    """A program for ``torch.export.load``.

    Args:
        streaming: write one time step, whose membrane potentials are inputs and outputs.
    """

    streaming: bool = False

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
        # Of weights in another memory format torch's writer warns.
        for weight in program.state_dict.values():
            weight.data = weight.data.contiguous()
        # torch's writer of archives ends the process on a full disk.
        content = BytesIO()
        torch.export.save(program, content)
        path.write_bytes(content.getbuffer())
        return program_logits(path, spec)


def program_logits(path: Path, spec: NetworkSpec) -> Logits:
    """Return a function that runs a trusted ``.pt2`` file; torch gives no guarantee for others."""
    program = torch.export.load(path)
    module, (_, *state) = program.module(), program.example_inputs[0]

    @torch.inference_mode()
    def run(images: Tensor, state: Sequence[Tensor]) -> Sequence[Tensor]:
        outputs: tuple[Tensor, ...] = module(images, *state)
        return outputs

    return graph_logits(run, [potential.shape[1:] for potential in state], spec)


def graph_logits(
    run: Callable[[Tensor, Sequence[Tensor]], Sequence[Tensor]], shapes: Sequence[Sequence[int]], spec: NetworkSpec
) -> Logits:
    """Return the logits of a graph, which ``run`` calls on its inputs.

    A graph of one time step has membrane potentials, whose ``shapes`` are those of one sample.
    """

    def step(frame: Tensor, state: Sequence[Tensor] | None) -> tuple[Tensor, Sequence[Tensor]]:
        state = [torch.zeros(len(frame), *shape) for shape in shapes] if state is None else state
        logits, *others = run(frame.to(input_dtype(spec)), state)
        # Before the potentials are the logits of kept branches, if there are any.
        return logits, others[len(others) - len(shapes) :]

    return mean_over_steps(step, spec) if shapes else lambda images: step(images, None)[0]
