"""The convolutional network of snnTorch's tutorial 6, with and without shortcut branches after its hidden neurons.

It computes one time step per call and keeps its state in its neurons; ``attach`` infers that, calls it once per time
step and resets it. ``batch_axis`` says that time comes before samples. ``readout`` takes the logits from the pair
(spikes, membrane potentials): the membrane potentials of the last neurons, averaged over time.
"""

import snntorch
from snntorch import surrogate
from torch import Tensor, nn

from batches import Shape
from command import run


def network(events: bool) -> nn.Module:
    """Build the network as the tutorial does."""
    neuron = {"beta": 0.5, "spike_grad": surrogate.fast_sigmoid(slope=25), "init_hidden": True}
    return nn.Sequential(
        nn.Conv2d(2 if events else 1, 12, 5),
        nn.MaxPool2d(2),
        snntorch.Leaky(**neuron),
        nn.Conv2d(12, 64, 5),
        nn.MaxPool2d(2),
        snntorch.Leaky(**neuron),
        nn.Flatten(),
        nn.Linear(64 * 4 * 4, 10),
        snntorch.Leaky(**neuron, output=True),
    )


def membrane(output: tuple[Tensor, Tensor]) -> Tensor:
    """Return the mean over time of the membrane potentials, ``[N, 10]``."""
    return output[1].mean(0)


if __name__ == "__main__":
    run(
        __doc__,
        network,
        ["2", "5"],
        lambda events: Shape(2 if events else 1, 28, time_steps=8),
        lr=1e-2,
        batch_axis=1,
        readout=membrane,
    )
