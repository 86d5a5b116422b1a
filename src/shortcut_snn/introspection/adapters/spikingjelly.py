"""SpikingJelly 2.0.0, and ``clock_driven`` of its versions up to 0.0.0.0.14.

Neurons keep their membrane potential until ``reset()``. In multi-step mode, ``step_mode = "m"``, a layer takes a
sequence ``[T, N, ...]``. ``clock_driven`` has other classes for that, whose names begin with ``MultiStep``.
"""

from torch import nn

from .adapter import Adapter, is_from


def _reset(network: nn.Module) -> None:
    # The library's reset_net would reset metrics too.
    for module in nn.Module.modules(network):
        if callable(reset := getattr(module, "reset", None)) and not is_from(module, "torchmetrics"):
            reset()


SPIKINGJELLY = Adapter(
    "SpikingJelly",
    "spikingjelly",
    is_neuron=lambda module: is_from(module, "spikingjelly.activation_based.neuron"),
    is_single_step=lambda neuron: getattr(neuron, "step_mode", "m") == "s",
    reset=_reset,
    averages_currents=True,
    set_multi_step="spikingjelly.activation_based.functional.set_step_mode(net, 'm')",
)
CLOCK_DRIVEN = Adapter(
    "SpikingJelly (clock_driven)",
    "spikingjelly",
    is_neuron=lambda module: is_from(module, "spikingjelly.clock_driven.neuron"),
    is_single_step=lambda neuron: not type(neuron).__name__.startswith("MultiStep"),
    reset=_reset,
    averages_currents=True,
)
