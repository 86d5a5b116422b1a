"""The spiking neurons of a network, built-in and third-party, and their reset."""

from torch import nn

from .._utils.calls import Reset
from ..neurons import CurrentNeuron, Neuron, NormNeuron
from .adapters import adapters_of, library_reset


def spiking_layers(network: nn.Module) -> dict[str, nn.Module]:
    """Return the built-in layers whose outputs are spikes, in the order of the network.

    The neuron inside a :class:`NormNeuron`, or inside a :class:`CurrentNeuron` of a folded network, is not listed
    separately: layer and neuron may run as one.
    """
    layers: dict[str, nn.Module] = {}
    for name, module in network.named_modules():
        inside = any(name == outer or name.startswith(f"{outer}.") for outer in layers)
        if isinstance(module, NormNeuron | CurrentNeuron | Neuron) and not inside:
            layers[name] = module
    return layers


def spiking_modules(network: nn.Module) -> dict[str, nn.Module]:
    """Return the layers of a network whose outputs are spikes, built-in or of a known library, by name."""
    layers = spiking_layers(network)
    for adapter in adapters_of(network):
        layers |= adapter.neurons(network)
    return layers


def find_neurons(network: nn.Module) -> dict[str, nn.Module]:
    """Return the neurons of a network, built-in or of a known library, by the names of their layers."""
    layers = spiking_modules(network)
    return {name: layer.neuron if isinstance(layer, NormNeuron) else layer for name, layer in layers.items()}


def learned_by_neurons(network: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that neurons learn, such as decays, thresholds and the matrices over time of a PSN.

    The weights of connections are not among them, even if a recurrent neuron of a library holds them.

    Example:
        >>> from shortcut_snn.neurons import PLIF
        >>> network = nn.Sequential(nn.Linear(2, 2), PLIF())
        >>> learned_by_neurons(network)[0] is network[1].w
        True
    """
    built_in = [module for module in nn.Module.modules(network) if isinstance(module, Neuron)]
    learned = [parameter for neuron in built_in for parameter in neuron.parameters()]
    for adapter in adapters_of(network):
        for neuron in adapter.neurons(network).values():
            # A layer inside a neuron connects it to itself. Norse's recurrent cells hold such weights directly.
            own = neuron.named_parameters(recurse=False)
            learned += [parameter for name, parameter in own if not name.endswith("_weights")]
    return learned


def single_step_neurons(network: nn.Module) -> set[str]:
    """Return the names of the library neurons that compute one time step per call."""
    return {
        name
        for adapter in adapters_of(network)
        for name, neuron in adapter.neurons(network).items()
        if adapter.is_single_step(neuron)
    }


def reset_of(network: nn.Module, reset: Reset | None) -> Reset:
    """Return the caller's reset, or that of the libraries of a network's neurons, or one that does nothing."""
    return reset or library_reset(adapters_of(network)) or (lambda model: None)
