"""SpikingJelly (2.0.0): neurons keep their membrane potential until ``functional.reset_net``.

In step mode ``"m"`` a layer takes a sequence ``[T, N, ...]``, in ``"s"`` one time step ``[N, ...]``.
"""

from importlib import import_module

from torch import nn

from .library import Library, is_from


def is_neuron(module: nn.Module) -> bool:
    """Whether a module is one of its neurons."""
    return is_from(module, "spikingjelly.activation_based.neuron")


def is_stepwise(module: nn.Module) -> bool:
    """Whether a neuron is in single-step mode."""
    return getattr(module, "step_mode", "m") == "s"


def reset(network: nn.Module) -> None:
    """Reset all stateful modules, as the library itself does it."""
    # Long imported where there is such a network.
    import_module("spikingjelly.activation_based.functional").reset_net(network)


SPIKINGJELLY = Library("SpikingJelly", is_neuron, is_stepwise, reset, time_axis=0)
