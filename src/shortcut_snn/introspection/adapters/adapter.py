"""Adapter: the documented conventions of one spiking library, as facts that need no probing."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from ..._utils.calls import Reset


@dataclass(frozen=True)
class Adapter:
    """The conventions of one library. No library is imported until a network of it is.

    Args:
        name: of the library, as its authors write it.
        package: its name in Python.
        is_neuron: whether a module is one of its spiking neurons.
        is_single_step: whether a neuron computes one time step per call, not a whole sequence.
        reset: returns a network's neurons to their initial state; None if they keep no state between calls.
        set_multi_step: the call that switches a network ``net`` to multi-step mode; empty without such a mode.
        state: the argument in which a network of the library takes back the state that it returned; empty for none.
        averages_currents: whether what the last layer gives at every time step is averaged, by convention.
        advice: how a network of a layout of its own is passed, in words; empty for others.

    Example:
        >>> from shortcut_snn.introspection.adapters import SPIKINGJELLY
        >>> SPIKINGJELLY.neurons(nn.Sequential(nn.Linear(2, 2)))
        {}
    """

    name: str
    package: str
    is_neuron: Callable[[nn.Module], bool]
    is_single_step: Callable[[nn.Module], bool]
    reset: Reset | None
    set_multi_step: str = ""
    state: str = ""
    averages_currents: bool = False
    advice: Callable[[nn.Module], str] = lambda network: ""

    def neurons(self, network: nn.Module) -> dict[str, nn.Module]:
        """Return a network's spiking neurons of this library by name, in the order of the network."""
        neurons: dict[str, nn.Module] = {}
        # Not the network's own named_modules, which some classes override.
        for name, module in nn.Module.named_modules(network):
            # What a neuron holds is its own, as a connection to itself.
            if self.is_neuron(module) and not any(name.startswith(f"{outer}.") for outer in neurons):
                neurons[name] = module
        return neurons

    def resets(self, neuron: nn.Module) -> bool:
        """Return whether the library's reset is known to suffice: a subclass elsewhere may keep more state."""
        return self.reset is not None and type(neuron).__module__.partition(".")[0] == self.package


def is_from(module: nn.Module, package: str) -> bool:
    """Return whether a module's class or one of its base classes is defined in a package."""
    return any(f"{base.__module__}.".startswith(f"{package}.") for base in type(module).__mro__)
