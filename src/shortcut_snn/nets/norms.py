"""Threshold-dependent batch normalisation (tdBN): a batch norm over time and batch that is initialised to the
threshold.

Zheng et al., "Going Deeper With Directly-Trained Larger Spiking Neural Networks", AAAI 2021::

    y = lambda * (alpha * threshold * (x - E[x]) / sqrt(Var[x] + eps)) + beta        lambda = 1, beta = 0 initially

with alpha = 1, or 1 / sqrt(2) for normalised values that are added to a residual before a neuron. An ordinary batch
norm over time and batch computes exactly this if its weight, ``lambda * alpha * threshold``, starts at ``alpha *
threshold``. SpikingJelly and the code of MS-ResNet do the same. The optimizer then sees lambda times the constant
``alpha * threshold``.
"""

import math
from typing import Literal

import torch
from torch import nn

from ..neurons import Neuron, NormNeuron
from .roles import declared_roles

Norm = Literal["bn", "tdbn"]


@torch.no_grad()
def start_at_threshold(network: nn.Module) -> None:
    """Set the weights of all batch norms of a new network to alpha * threshold.

    Alpha is 1 / sqrt(2) for norms whose outputs are added to a residual, as the blocks declare (see :mod:`.roles`).
    """
    sums = [role for role in declared_roles(network).values() if role.role in ("skip", "projected", "stream")]
    summed = {name for role in sums for name in (role.norm, role.projection)}
    neurons = [module for module in network.modules() if isinstance(module, Neuron)]
    layers = [module for module in network.modules() if isinstance(module, NormNeuron)]
    thresholds = {layer.norm: layer.neuron.threshold for layer in layers}
    for name, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            alpha = math.sqrt(0.5) if name in summed else 1.0
            module.weight.fill_(alpha * thresholds.get(module, neurons[0].threshold))
