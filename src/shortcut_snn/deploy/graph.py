"""Folded networks as ``torch.export`` graphs of plain operators, of a whole sequence or of one time step."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from ..neurons import use_backend
from .prepare import Prepare
from .single_step import SingleStep
from .spec import NetworkSpec


@dataclass(frozen=True)
class Graph:
    """A graph and the names of its inputs and outputs.

    Args:
        program: the graph.
        inputs: ``images``; or ``frame`` and one ``LAYER.before`` per layer of neurons.
        outputs: ``logits``; and one ``LAYER.after`` per layer of neurons if the graph is of one time step.
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
    """Trace a folded network for batches of any size.

    Args:
        network: from :func:`~shortcut_snn.deploy.fold`.
        spec: the network's specification.
        streaming: trace one time step, whose membrane potentials are inputs and outputs.

    Raises:
        ValueError: ``streaming`` with a network that runs whole sequences only.
    """
    inputs = spec.inputs
    steps = (spec.time_steps,) if inputs.kind == "events" and not streaming else ()
    images = torch.zeros(2, *steps, inputs.channels, *inputs.image_size, dtype=input_dtype(spec))
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
    names = single_step.names
    return Graph(
        program, ("frame", *(f"{name}.before" for name in names)), ("logits", *(f"{name}.after" for name in names))
    )
