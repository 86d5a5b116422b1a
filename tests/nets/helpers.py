"""Networks, batches and gradients for several tests."""

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


def two_stages(kind: type[nets.SpikingResNet] = nets.SpikingResNet) -> nets.SpikingResNet:
    """Return the same small channels-last network at each call."""
    torch.manual_seed(0)
    return kind([1, 1], 3, 2, width=8).to(memory_format=torch.channels_last)


def batch(seed: int) -> Tensor:
    """Return a batch of images for it."""
    images = torch.rand(4, 3, 12, 12, generator=torch.Generator().manual_seed(seed))
    return images.to(memory_format=torch.channels_last)


def gradients(network: nn.Module, images: Tensor) -> list[Tensor]:
    """Return the gradients of all parameters; none may be missing, or be 0 everywhere."""
    network(images).square().sum().backward()
    grads = [parameter.grad for parameter in network.parameters()]
    assert all(gradient is not None and gradient.any() for gradient in grads)
    return grads
