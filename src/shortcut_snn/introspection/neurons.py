"""The spiking neurons of a network, of this package and of other libraries."""

from torch import nn

from ..method import Reset
from ..neurons import CurrentNeuron, Neuron, NormNeuron
from .libraries import libraries_of
from .states import own_reset


def spiking_layers(network: nn.Module) -> dict[str, nn.Module]:
    """Return the layers whose outputs are spikes, in the order of the network.

    A neuron inside a :class:`NormNeuron`, or a :class:`CurrentNeuron` of a folded network, is not listed beside it: the
    two are one layer and may run as one.
    """
    found: dict[str, nn.Module] = {}
    for name, module in network.named_modules():
        inside = any(name == other or name.startswith(f"{other}.") for other in found)
        if isinstance(module, NormNeuron | CurrentNeuron | Neuron) and not inside:
            found[name] = module
    return found


def neurons(network: nn.Module) -> dict[str, nn.Module]:
    """Return the neuron modules by the names of their layers (see :func:`~.firing.spiking_layers`).

    Those of other libraries that are known are found too.
    """
    ours = spiking_layers(network)
    found = {name: layer.neuron if isinstance(layer, NormNeuron) else layer for name, layer in ours.items()}
    for library in libraries_of(network):
        found |= library.neurons(network)
    return found


def stepwise(network: nn.Module) -> set[str]:
    """Return the names of the neurons that compute one time step a call."""
    known = [(library, library.neurons(network)) for library in libraries_of(network)]
    return {name for library, found in known for name, module in found.items() if library.is_stepwise(module)}


def resetting(network: nn.Module, reset: Reset | None) -> Reset:
    """Return what puts a network's neurons to rest: what is given, or what their libraries do."""
    return reset or own_reset(libraries_of(network)) or (lambda model: None)
