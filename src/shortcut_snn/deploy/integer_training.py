"""Training with the weights of an integer file, so that few bits cost less accuracy."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from ..nets.blocks import MSBlock
from ..neurons.step_functions import straight_through
from .integer_graph import quantise


@contextmanager
def quantised_weights(network: nn.Module, bits: int) -> Iterator[None]:
    """Round the weights of a network inside a block as an integer file does; gradients pass straight through.

    Call the network inside the block, in every training step; the backward pass may follow it. The optimizer and
    :func:`.export_network` see the weights that are not rounded. The norm after a layer does not change the layer's
    integers, so a network with batch norms trains as well as a folded one.

    Args:
        network: a ResNet or VGG of this package, before or after :func:`.fold`.
        bits: as for ``export --to integer --bits``; layers that keep 8 bits there are left as they are.

    Example:
        >>> import torch
        >>> from shortcut_snn import nets
        >>> network = nets.spiking_resnet8(10, 2, width=4)
        >>> with quantised_weights(network, 4):
        ...     network(torch.rand(2, 3, 8, 8)).sum().backward()
        ...     network.layer1[0].conv1.weight[0].unique().numel() <= 15
        True
        >>> network.layer1[0].conv1.weight[0].unique().numel()
        36
    """
    layers = {path: layer for path, layer in network.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)}
    on_currents = {f"{path}.project.conv" for path, block in network.named_modules() if isinstance(block, MSBlock)}
    inner = [layer for path, layer in list(layers.items())[1:-1] if path not in on_currents]
    for layer in inner:
        integers, scale = quantise(layer.weight, bits)
        rounded = integers * scale.view(-1, *[1] * (integers.dim() - 1))
        # It hides the parameter, which stays where the optimizer finds it.
        vars(layer)["weight"] = straight_through(rounded, layer.weight, torch.ones_like)
    try:
        yield
    finally:
        for layer in inner:
            del vars(layer)["weight"]
