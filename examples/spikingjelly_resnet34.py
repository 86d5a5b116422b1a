"""SpikingJelly's spiking_resnet34, as the library initialises it and as ``attach`` does by measurement.

    python examples/spikingjelly_resnet34.py --methods without initialised

The network is SpikingJelly's own. Only its initial values differ.
"""

from functools import partial

from spikingjelly.activation_based.model.spiking_resnet import spiking_resnet34

from batches import Shape
from command import run
from spikingjelly_resnet18 import network

if __name__ == "__main__":
    run(__doc__, partial(network, build=spiking_resnet34), "blocks", lambda events: Shape(3, size=32, time_steps=2))
