"""The rule by which weights become integers, and training with such weights, so that few bits cost less accuracy."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..method import Shortcut
from ..nets.blocks import MSBlock
from ..neurons.step_functions import straight_through


def quantise(weight: Tensor, bits: int, smallest_scale: Tensor | float = 0.0) -> tuple[Tensor, Tensor]:
    """Return integers of some bits and a scale per output channel, whose product is nearest to the weights.

    The integers are symmetric about 0. Of 13 scales, the one of the least squared error is taken: with few bits it
    clips the largest weights.
    """
    most = 2 ** (bits - 1) - 1
    flat = weight.detach().flatten(1)
    largest = flat.abs().amax(1, keepdim=True) / most
    least = torch.finfo(weight.dtype).tiny
    best, error = largest, torch.full_like(largest, float("inf"))
    for share in torch.linspace(1.0, 0.4, 13).tolist():
        scale = (largest * share).clamp_min(least)
        difference = ((flat / scale).round().clamp(-most, most) * scale - flat).square().sum(1, keepdim=True)
        best, error = torch.where(difference < error, scale, best), torch.minimum(error, difference)
    scale = torch.maximum(best.squeeze(1), torch.as_tensor(smallest_scale).to(weight)).clamp_min(least)
    integers = (flat / scale.unsqueeze(1)).round().clamp(-most, most).view_as(weight)
    return integers, scale


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

    An export then finds nothing to round in these layers. It rounds the others to 8 bits: the first, the last, and
    projections of MS blocks.

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
    network = network.network if isinstance(network, Shortcut) else network
    layers = {path: layer for path, layer in network.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)}
    on_currents = {f"{path}.project.conv" for path, block in network.named_modules() if isinstance(block, MSBlock)}
    rounded = []
    for path, layer in list(layers.items())[1:-1]:
        if path not in on_currents:
            integers, scale = quantise(layer.weight, bits)
            rounded.append((layer, integers * scale.view(-1, *[1] * (integers.dim() - 1))))
    return rounded
