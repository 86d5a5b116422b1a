"""Training with the weights of an integer file, so that few bits cost less accuracy."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..nets.blocks import MSBlock
from ..neurons.step_functions import straight_through
from .rounding import quantise


@contextmanager
def quantised_weights(network: nn.Module, bits: int) -> Iterator[None]:
    """Round the weights of a network inside a block as an integer file does; gradients pass straight through.

    Call the network inside the block, in every training step; the backward pass may follow it. The optimizer sees
    the weights that are not rounded; call :func:`round_weights` at the end. The norm after a layer does not change the
    layer's integers, so a network with batch norms trains as well as a folded one.

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
    rounded = _rounded_weights(network, bits)
    for layer, weight in rounded:
        # It hides the parameter, which stays where the optimizer finds it.
        vars(layer)["weight"] = straight_through(weight, layer.weight, torch.ones_like)
    try:
        yield
    finally:
        for layer, _ in rounded:
            del vars(layer)["weight"]


@torch.no_grad()
def round_weights(network: nn.Module, bits: int) -> None:
    """Round the weights of a network in place, after training with :func:`quantised_weights`.

    An export then finds nothing to round, and nothing that a bias has to take back.

    Example:
        >>> from shortcut_snn import nets
        >>> network = nets.spiking_resnet8(10, 2, width=4)
        >>> round_weights(network, 2)
        >>> network.layer1[0].conv1.weight[0].unique().numel() <= 3
        True
    """
    for layer, weight in _rounded_weights(network, bits):
        layer.weight.copy_(weight)


def _rounded_weights(network: nn.Module, bits: int) -> list[tuple[nn.Conv2d | nn.Linear, Tensor]]:
    """Return the layers that have few bits in an integer file, with their rounded weights."""
    layers = {path: layer for path, layer in network.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)}
    on_currents = {f"{path}.project.conv" for path, block in network.named_modules() if isinstance(block, MSBlock)}
    rounded = []
    for path, layer in list(layers.items())[1:-1]:
        if path not in on_currents:
            integers, scale = quantise(layer.weight, bits)
            rounded.append((layer, integers * scale.view(-1, *[1] * (integers.dim() - 1))))
    return rounded
