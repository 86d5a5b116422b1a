"""SpikingJelly's spiking_resnet34, as the library initialises it and as ``attach`` does by measurement.

    python examples/spikingjelly_resnet34.py --methods without initialised

The network is SpikingJelly's own. Only its initial values differ.
"""

from spikingjelly.activation_based import functional, neuron, surrogate
from spikingjelly.activation_based.model.spiking_resnet import spiking_resnet34
from torch import nn

from batches import Shape
from command import run


def network(events: bool) -> nn.Module:
    """Build the network as the library's training script does."""
    net = spiking_resnet34(
        spiking_neuron=neuron.LIFNode, surrogate_function=surrogate.ATan(), detach_reset=True, num_classes=10
    )
    functional.set_step_mode(net, "m")
    return net


if __name__ == "__main__":
    run(__doc__, network, "blocks", lambda events: Shape(channels=3, size=32, time_steps=2))
