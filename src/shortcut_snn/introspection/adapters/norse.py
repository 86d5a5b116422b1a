"""Norse 1.1.0.

Neurons take their state as an argument and return ``(spikes, next state)``, so nothing is left to reset. Modules named
``...Cell`` compute one time step per call; the others take ``[T, N, ...]``. A leaky integrator does not spike.
"""

from torch import nn

from .adapter import Adapter, is_from


def _is_neuron(module: nn.Module) -> bool:
    return is_from(module, "norse.torch.module.snn") and not is_from(module, "norse.torch.module.leaky_integrator")


def _is_cell(neuron: nn.Module) -> bool:
    return any(base.__name__ in ("SNNCell", "SNNRecurrentCell") for base in type(neuron).__mro__)


NORSE = Adapter("Norse", "norse", is_neuron=_is_neuron, is_single_step=_is_cell, reset=None, state="state")
