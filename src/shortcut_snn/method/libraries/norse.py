"""Norse (1.1.0): neurons are given their state and return the next, so they keep none.

Modules over ``[T, N, ...]`` (LIF, anything in a Lift) and cells of one time step give ``(spikes, state)``.
"""

from torch import nn

from .library import Library, is_from


def is_neuron(module: nn.Module) -> bool:
    """Whether a module is one of its spiking neurons (a leaky integrator does not spike)."""
    return is_from(module, "norse.torch.module.snn") and not is_from(module, "norse.torch.module.leaky_integrator")


def is_stepwise(module: nn.Module) -> bool:
    """Whether a neuron is a cell."""
    return any(base.__name__ in ("SNNCell", "SNNRecurrentCell") for base in type(module).__mro__)


NORSE = Library("Norse", is_neuron, is_stepwise, reset=None, time_axis=0, carries_state=True)
