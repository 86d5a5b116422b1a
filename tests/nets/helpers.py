"""What several tests of networks need."""

import torch
from torch import Tensor, nn

from shortcut_snn import nets


def awake(network: nets.SpikingNetwork, x: Tensor) -> nets.SpikingNetwork:
    """Give a fresh network the running statistics of a batch: without them its deep layers are silent in eval."""
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        network.train()(x)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return network
