"""SpikingJelly's spiking_resnet18, multi-step mode, with and without shortcut branches at the ends of its stages.

The network is SpikingJelly's own, unchanged: ``attach`` recognises its neurons and resets them.
"""

from collections.abc import Callable

from spikingjelly.activation_based import functional, neuron, surrogate
from spikingjelly.activation_based.model.spiking_resnet import spiking_resnet18
from torch import nn

from batches import Shape
from command import run


def network(events: bool, build: Callable[..., nn.Module] = spiking_resnet18) -> nn.Module:
    """Build the network as the library's training script does."""
    net = build(spiking_neuron=neuron.LIFNode, surrogate_function=surrogate.ATan(), detach_reset=True, num_classes=10)
    functional.set_step_mode(net, "m")
    return net


if __name__ == "__main__":
    run(__doc__, network, "stages", lambda events: Shape(channels=3, size=32, time_steps=4))
