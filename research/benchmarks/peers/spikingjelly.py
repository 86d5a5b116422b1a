"""SpikingJelly: multi-step mode, its torch implementation on a CPU and its own choice on a GPU.

What its source says (2.0.0): ``LIFNode(tau=2, decay_input=False)`` is ``v - v / 2 + x``; it fires at >= the
threshold; a built-in ATan or PiecewiseQuadratic surrogate and a float32 membrane take its fused operator, anything
else an autograd loop. The membrane takes the dtype of the current, so under autocast it is integrated in bfloat16
and by the loop; ``Float32LIF`` keeps the float32 membrane of the other libraries and the fused operator.
"""

from collections.abc import Callable

import torch
from spikingjelly.activation_based import functional, layer, memopt, neuron, surrogate
from torch import Tensor, nn

from ..cell import Cell
from ..dynamics import ATAN_ALPHA, DECAY, NEXT_THRESHOLD, TRIANGLE_HEIGHT
from .skeleton import Block, Kit, LinearNeuron, SequenceNetwork


class Float32LIF(neuron.LIFNode):
    """A LIF node whose membrane is float32 whatever the current's dtype."""

    def materialize_states(
        self, inputs: tuple[Tensor, ...], states: tuple[object, ...], step_mode: str
    ) -> tuple[object, ...]:
        """Return the membrane potential to start from."""
        (v, *rest) = super().materialize_states(inputs, states, step_mode)
        return (v.float(), *rest)


def lif(shape: surrogate.SurrogateFunctionBase, kind: type[neuron.LIFNode] = Float32LIF) -> neuron.LIFNode:
    """Build a LIF node of the common dynamics."""
    return kind(
        tau=1.0 / (1.0 - DECAY),
        decay_input=False,
        v_threshold=NEXT_THRESHOLD,
        v_reset=0.0,
        surrogate_function=shape,
        detach_reset=True,
        step_mode="m",
    )


def network(cell: Cell, kind: type[neuron.LIFNode] = Float32LIF) -> SequenceNetwork:
    """Build the network of a cell."""
    kit = Kit(
        conv=lambda i, o, kernel, stride, pad: layer.Conv2d(i, o, kernel, stride, pad, bias=False, step_mode="m"),
        norm=lambda channels: layer.BatchNorm2d(channels, step_mode="m"),
        neuron=lambda: lif(surrogate.ATan(ATAN_ALPHA), kind),
        reset=functional.reset_net,
    )
    return SequenceNetwork(kit, cell.network, cell.width, cell.classes, cell.time_steps)


def as_shipped(cell: Cell) -> SequenceNetwork:
    """Build the network with LIF nodes as they come: bfloat16 membranes under autocast."""
    return network(cell, neuron.LIFNode)


def memory_optimised(cell: Cell) -> SequenceNetwork:
    """Build the network with SpikingJelly's memory optimisation: blocks recomputed, their spikes kept as bits."""
    built = network(cell)
    images = torch.zeros(2, 3, cell.size, cell.size)

    def example(model: nn.Module) -> None:
        with torch.no_grad():
            model(images)

    memopt.optimize_memory(built, (Block,), example, level=1)
    functional.reset_net(built)
    return built


NEURONS: dict[str, Callable[[], neuron.BaseNode]] = {
    "linear-lif": lambda: lif(surrogate.PiecewiseQuadratic(TRIANGLE_HEIGHT)),
    "linear-clif": lambda: neuron.ComplementaryLIFNode(
        tau=1.0 / (1.0 - DECAY), v_threshold=NEXT_THRESHOLD, step_mode="m"
    ),
    "linear-klif": lambda: neuron.KLIFNode(
        tau=1.0 / (1.0 - DECAY),
        decay_input=False,
        v_threshold=NEXT_THRESHOLD,
        surrogate_function=surrogate.ATan(ATAN_ALPHA),
        detach_reset=True,
        step_mode="m",
    ),
    "linear-ilif": lambda: neuron.ILIFNode(tau=1.0 / (1.0 - DECAY), step_mode="m"),
}
"""The neurons of the part ``"neuron"``, by the names of its networks."""


def linear_neuron(linear: nn.Linear, network: str) -> nn.Module:
    """Build the part ``"neuron"`` over a linear layer."""
    return LinearNeuron(linear, NEURONS[network](), functional.reset_net)
