"""Folded networks as graphs of plain operators, for the whole sequence or for one time step."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from ..neurons import Neuron, traced, use_backend
from .describe import Description
from .prepare import Prepare
from .step import StepNetwork, check_steps, neurons_of


class _Whole(nn.Module):
    def __init__(self, network: nn.Module, about: Description) -> None:
        super().__init__()
        self.prepare, self.network = Prepare(about), network

    def forward(self, images: Tensor) -> tuple[Tensor]:
        """Map images or frames to logits."""
        return (self.network(self.prepare(images)),)


class _Step(nn.Module):
    def __init__(self, network: nn.Module, about: Description) -> None:
        super().__init__()
        self.prepare, self.steps = Prepare(about), StepNetwork(network)

    def forward(self, frame: Tensor, *before: Tensor) -> tuple[Tensor, ...]:
        """Map a frame and membrane potentials to logits and membrane potentials."""
        out: tuple[Tensor, ...] = self.steps(self.prepare(frame), *before)
        return out


@dataclass(frozen=True)
class Program:
    """A graph and the names in it.

    Args:
        exported: the graph.
        inputs: ``images``, or ``frame`` and a ``LAYER.before`` for each layer of neurons.
        outputs: ``logits``, and in the second case a ``LAYER.after`` for each layer of neurons.
        neurons: paths of the layers of neurons in the network.
        prefix: path of the network in the graph.
    """

    exported: ExportedProgram
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    neurons: tuple[str, ...]
    prefix: str


def input_dtype(about: Description) -> torch.dtype:
    """Return the dtype of a graph's images: levels are bytes, counts of events are floats."""
    return torch.uint8 if about.images.kind == "static" else torch.float32


def make_program(network: nn.Module, about: Description, streaming: bool) -> Program:
    """Trace a folded network; the size of the batch is left open.

    Args:
        network: from :func:`~shortcut_snn.deploy.folding.fold`.
        about: what it is.
        streaming: one time step, its membrane potentials as inputs and outputs, instead of the whole sequence.

    Raises:
        ValueError: a single time step of a network whose logits are of the whole sequence.
    """
    if streaming:
        check_steps(network)
    steps = (about.time_steps,) if about.images.kind == "events" and not streaming else ()
    images = torch.zeros(2, *steps, about.images.channels, *about.images.image_size, dtype=input_dtype(about))
    batch = {0: Dim("batch", min=1)}
    for each in neurons_of(network).values():
        if isinstance(each.neuron, Neuron):
            # Of a step that is known, less is written into the graph.
            traced(each.neuron)
    with torch.no_grad(), use_backend("eager"):
        if not streaming:
            whole = torch.export.export(
                _Whole(network, about).eval(),
                (images,),
                dynamic_shapes={"images": batch},
                prefer_deferred_runtime_asserts_over_guards=True,
            )
            return Program(whole, ("images",), ("logits",), tuple(neurons_of(network)), "network")
        module = _Step(network, about).eval()
        start = module.steps.start(module.prepare(images))
        shapes = {"frame": batch, "before": tuple(batch for _ in start)}
        exported = torch.export.export(
            module, (images, *start), dynamic_shapes=shapes, prefer_deferred_runtime_asserts_over_guards=True
        )
    names = module.steps.names
    return Program(
        exported,
        ("frame", *(f"{name}.before" for name in names)),
        ("logits", *(f"{name}.after" for name in names)),
        tuple(names),
        "steps.network",
    )
