"""Networks and batches small enough for a test."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shortcut_snn import nets
from shortcut_snn.neurons import LIF, Surrogate


def network(
    surrogate: Surrogate, block: str = "plain", name: str = "resnet18", steps: int = 2, **neuron: float
) -> nn.Module:
    """Return a thin network whose neurons have a surrogate."""
    make = lambda: LIF(surrogate=surrogate, **neuron)  # noqa: E731
    return getattr(nets, f"spiking_{name}")(10, steps, width=6, block=block, make_neuron=make)


def batch(samples: int = 12, side: int = 12) -> tuple[Tensor, Tensor]:
    """Return images and labels."""
    return torch.randn(samples, 3, side, side), torch.randint(0, 10, (samples,))


def loss_of_mean(output: Tensor, labels: Tensor) -> Tensor:
    """Return the loss of the mean over steps."""
    return F.cross_entropy(output.mean(0), labels)
