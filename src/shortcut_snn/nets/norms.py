"""Threshold-dependent batch normalisation: batch normalisation over time and batch that starts at the threshold.

Zheng et al., "Going Deeper With Directly-Trained Larger Spiking Neural Networks", AAAI 2021::

    y = lambda * (alpha * threshold * (x - E[x]) / sqrt(Var[x] + eps)) + beta        lambda = 1, beta = 0 at first

with alpha = 1, and 1 / sqrt(2) for normalised values whose sum with a residual enters a neuron. A batch norm over time
and batch whose weight, ``lambda * alpha * threshold``, starts at ``alpha * threshold`` computes exactly this, so no
module of its own is needed (SpikingJelly and the code of MS-ResNet do the same). What differs is the parameter that the
optimizer sees: between it and lambda is a constant factor, 1 where alpha * threshold = 1.
"""

import math
from collections.abc import Collection
from typing import Literal, get_args

import torch
from torch import nn

from ..neurons import Neuron, NormNeuron

Norm = Literal["bn", "tdbn"]


def check_norm(norm: str) -> None:
    """Refuse an unknown kind of normalisation.

    Raises:
        ValueError: the message lists those there are.
    """
    if norm not in get_args(Norm):
        raise ValueError(f"unknown norm {norm!r}: use one of {', '.join(get_args(Norm))}")


@torch.no_grad()
def start_at_threshold(network: nn.Module, summed: Collection[str] = ()) -> None:
    """Set the weights of all batch norms of a fresh network to alpha * threshold.

    Args:
        network: what to initialise.
        summed: ends of the names of the norms with alpha = 1 / sqrt(2), as in ``"project.norm"``.
    """
    neurons = [module for module in network.modules() if isinstance(module, Neuron)]
    own = {module.norm: module.neuron.threshold for module in network.modules() if isinstance(module, NormNeuron)}
    for name, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            alpha = math.sqrt(0.5) if any(name.endswith(f".{end}") for end in summed) else 1.0
            module.weight.fill_(alpha * own.get(module, neurons[0].threshold))
