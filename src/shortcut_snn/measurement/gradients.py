"""Gradients of the weights of every layer, with and without the method (paper, figure 2)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from .._utils.module_state import preserving_state
from ..method import Shortcut
from ..method.targets import Criterion


def is_on_chain(name: str) -> bool:
    """Return whether a layer is on the chain of layers from input to output, not in a residual's projection."""
    # ResNets have these names for the layers of a skip path: here; in torchvision and SpikingJelly.
    return {"project", "downsample"}.isdisjoint(name.split("."))


def chain_weights(network: nn.Module) -> dict[str, nn.Parameter]:
    """Return the weights of the chain of layers along which a gradient vanishes or explodes, in order of definition.

    Residual projections and the last layer, the readout, are left out.
    """
    layers = [
        (name, module)
        for name, module in network.named_modules()
        if isinstance(module, nn.modules.conv._ConvNd | nn.Linear) and is_on_chain(name)
    ]
    return {name: cast(nn.Parameter, module.weight) for name, module in layers[:-1]}


@torch.no_grad()
def gradient_rms(network: nn.Module) -> dict[str, float]:
    """Return the root mean square of each layer's weight gradient after a backward pass."""
    grads = {name: weight.grad.float() for name, weight in chain_weights(network).items() if weight.grad is not None}
    if not grads:
        return {}
    # One transfer from the device for all layers.
    values = torch.stack([grad.square().mean().sqrt() for grad in grads.values()])
    return dict(zip(grads, values.tolist(), strict=True))


def first_to_last_ratio(rms: Mapping[str, float]) -> float:
    """Return the gradient RMS of the first layer divided by the last layer's: above 1 the gradient grew."""
    values = list(rms.values())
    if not values:
        return math.nan
    first, last = values[0], values[-1]
    return first / last if last else math.inf if first else math.nan


@dataclass(frozen=True)
class GradientReport:
    """Weight gradients of one network on one batch."""

    rms: dict[str, float]
    """Root mean square by layer, from input to output."""
    first: Tensor
    """Gradient of the first trained layer's weights, flat."""


def measure_gradients(
    model: Shortcut, images: Tensor, labels: Tensor, branch_weight: float, criterion: Criterion | None = None
) -> GradientReport:
    """Return the weight gradients of one batch in training mode; the model is left unchanged.

    Layers stand in the order in which the network defines them, and the last one, its readout, is left out.

    Args:
        model: a wrapped network.
        images: a batch of inputs.
        labels: class indices ``[N]``.
        branch_weight: lambda. 0 shows the gradients without the branches.
        criterion: the loss of one prediction; by default the layout's.

    Raises:
        ValueError: all layers are frozen.

    Example:
        >>> from shortcut_snn import attach, nets
        >>> model = attach(nets.spiking_resnet8(10, 1, width=4), method="loss_sum", log=lambda line: None)
        >>> images, labels = torch.randn(8, 3, 8, 8), torch.randint(10, (8,))
        >>> report = measure_gradients(model, images, labels, branch_weight=0.25)
        >>> sorted(report.rms)[:2]
        ['layer1.0.conv1', 'layer1.0.conv2']
    """
    with preserving_state(model):
        loss = model.weighted_loss(model(images), labels, branch_weight, criterion)
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
        gradients = (weight.grad for weight in chain_weights(model.network).values() if weight.grad is not None)
        first = next(gradients, None)
        if first is None:
            raise ValueError("no layer of the network is trained: call requires_grad_(True)")
        return GradientReport(gradient_rms(model.network), first.detach().float().flatten().cpu())
