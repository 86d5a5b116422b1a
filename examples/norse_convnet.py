"""The convolutional network of Norse's MNIST task, with and without shortcut branches after its first neurons.

It loops over time itself and starts from its initial state in every call; its neurons return (spikes, state). Logits
are the largest voltages over time, as in the task.
"""

from norse.torch.models.conv import ConvNet4
from torch import Tensor, nn

from batches import Shape
from command import run


def network(events: bool) -> nn.Module:
    """Build the network as the task does."""
    return ConvNet4(num_channels=2 if events else 1)


def largest(voltages: Tensor) -> Tensor:
    """Return the largest voltages over time, ``[N, 10]``."""
    return voltages.amax(0)


if __name__ == "__main__":
    run(
        __doc__,
        network,
        ["lif0", "lif1"],
        lambda events: Shape(2 if events else 1, 28, time_steps=16, scale=2.0),
        readout=largest,
    )
