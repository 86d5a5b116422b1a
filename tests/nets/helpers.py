"""Networks for several tests."""

from typing import Any

import torch
from torch import Tensor, nn

from shortcut_snn import components, nets

RESNETS = [name for name in components.network if name.startswith("resnet")]


def by_name(name: str, *sizes: int, **options: Any) -> nets.SpikingNetwork:
    """Build a built-in network by its name."""
    return components.network.find(name).factory(*sizes, **options)


def awake(network: nets.SpikingNetwork, x: Tensor) -> nets.SpikingNetwork:
    """Give a new network the running statistics of a batch; without them its deep layers are silent in eval mode."""
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        network.train()(x)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return network
