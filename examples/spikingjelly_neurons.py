"""SpikingJelly's neurons in this library's networks and recipes, with the same dynamics, to compare time and accuracy.

shortcut-snn train --import examples/spikingjelly_neurons.py --config cifar10-cpu --neuron.kind spikingjelly_ilif
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal

import numpy as np
from torch import nn

from shortcut_snn import components
from shortcut_snn.neurons import ATan, Rectangle, Sigmoid, Surrogate, Triangle


class _FromRest:
    """Reset SpikingJelly's neurons at each call, and keep their membrane in float32 under autocast.

    SpikingJelly has no fused operator for a membrane in bfloat16.
    """

    reset: Callable[[], None]

    def materialize_states(self, inputs: Any, states: Any, step_mode: str) -> Any:
        v, *rest = super().materialize_states(inputs, states, step_mode)  # type: ignore[misc]
        return (v.float(), *rest)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        self.reset()
        return super().forward(*args, **kwargs)  # type: ignore[misc]


@components.neuron("spikingjelly_ilif")
def spikingjelly_ilif(
    decay: float = 0.25, threshold: float = 1.0, max_spikes: int = 4, detach_reset: bool = False
) -> nn.Module:
    """SpikingJelly's ILIFNode over sequences, with the dynamics of :class:`shortcut_snn.neurons.ILIF`.

    Args:
        decay: factor on the membrane potential in a step.
        threshold: membrane potential per spike.
        max_spikes: largest number of spikes in a step.
        detach_reset: whether the gradient ignores that the reset depends on the count.
    """
    from spikingjelly.activation_based import neuron
    from spikingjelly.activation_based.surrogate import MultiLevelSpikeCount

    class Float32ILIF(_FromRest, neuron.ILIFNode):
        pass

    return Float32ILIF(1 / (1 - decay), threshold, MultiLevelSpikeCount(max_spikes), detach_reset, step_mode="m")


@components.neuron("spikingjelly_lif")
def spikingjelly_lif(
    decay: float = 0.5,
    threshold: float = 1.0,
    surrogate: Annotated[Surrogate | None, components.surrogate] = None,
    reset: Literal["hard"] = "hard",
    detach_reset: bool = False,
) -> nn.Module:
    """SpikingJelly's LIFNode with the dynamics and the float32 membrane of :class:`shortcut_snn.neurons.LIF`.

    Args:
        decay: factor on the membrane potential in a step.
        threshold: membrane potential above which it fires.
        surrogate: a rectangle, triangle, atan or sigmoid of area 1.
        reset: hard, to 0.
        detach_reset: whether the gradient ignores that the reset depends on the spike.

    Raises:
        ValueError: SpikingJelly does not have the surrogate.
    """
    from spikingjelly.activation_based import neuron
    from spikingjelly.activation_based import surrogate as theirs

    class Float32LIF(_FromRest, neuron.LIFNode):
        pass

    shape: Any
    match surrogate:
        case None:
            shape = theirs.Rect(1.0)
        case Rectangle(width):
            shape = theirs.Rect(1 / width)
        case Triangle(gamma, width) if gamma * width == 1:
            shape = theirs.PiecewiseQuadratic(gamma)
        case ATan(alpha):
            shape = theirs.ATan(alpha)
        case Sigmoid(alpha):
            shape = theirs.Sigmoid(alpha)
        case _:
            raise ValueError(f"neuron.surrogate: SpikingJelly has no {surrogate}; take a triangle of area 1")
    return Float32LIF(
        tau=1 / (1 - decay),
        decay_input=False,
        # SpikingJelly fires at >= its threshold; with the next float32 that equals > threshold.
        v_threshold=float(np.nextafter(np.float32(threshold), np.float32(np.inf))),
        v_reset=0.0,
        surrogate_function=shape,
        detach_reset=detach_reset,
        step_mode="m",
    )
