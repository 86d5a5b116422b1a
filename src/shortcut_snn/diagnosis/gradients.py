"""Gradients of every layer, with and without the method (paper, figure 2)."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..method import Shortcut, ShortcutOutput
from ..module_state import preserving_state

Loss = Callable[[ShortcutOutput, Tensor, float], Tensor]

# What ResNets call the layer of a residual that changes its shape: ours; torchvision's and SpikingJelly's.
_ASIDE = {"project", "downsample"}


def on_chain(name: str) -> bool:
    """Say whether a layer lies on the chain of layers from input to output, not in a residual's projection."""
    return _ASIDE.isdisjoint(name.split("."))


def weights(network: nn.Module) -> dict[str, nn.Parameter]:
    """Return the weights of convolutions and linear layers, shallowest first.

    Residual projections and the readout are left out: they are not on the chain of layers along which a
    gradient vanishes or explodes.
    """
    layers = [
        (name, module)
        for name, module in network.named_modules()
        if isinstance(module, nn.modules.conv._ConvNd | nn.Linear) and on_chain(name)
    ]
    return {name: cast(nn.Parameter, module.weight) for name, module in layers[:-1]}


@torch.no_grad()
def gradient_rms(network: nn.Module) -> dict[str, float]:
    """Return the root mean square of each layer's weight gradient after a backward pass."""
    grads = {name: weight.grad for name, weight in weights(network).items()}
    names = [name for name, grad in grads.items() if grad is not None]
    if not names:
        return {}
    values = torch.stack([grads[name].float().square().mean().sqrt() for name in names])  # type: ignore[union-attr]
    return dict(zip(names, values.tolist(), strict=True))


def shallow_to_deep(rms: Mapping[str, float]) -> float:
    """Return the first layer's gradient RMS over the last's: above 1 it grew on the way back, below 1 it faded."""
    values = list(rms.values())
    if not values:
        return float("nan")
    return values[0] / values[-1] if values[-1] else float("inf") if values[0] else float("nan")


def signal(gradients: Sequence[Tensor]) -> float:
    """Return the mean cosine between gradients of different batches: 1 is all signal, 0 is noise.

    Args:
        gradients: of the same weights on different batches, flat; NaN for fewer than two.
    """
    pairs = [F.cosine_similarity(a, b, dim=0) for a, b in itertools.combinations(gradients, 2)]
    return torch.stack(pairs).mean().item() if pairs else math.nan


@dataclass(frozen=True)
class GradientReport:
    """Gradients of one network on one batch."""

    rms: dict[str, float]
    """Root mean square by layer, shallowest first."""
    first: Tensor
    """The first layer's weight gradient, flat."""

    @property
    def ratio(self) -> float:
        """The first layer's RMS over the last's."""
        return shallow_to_deep(self.rms)


def measure(model: Shortcut, images: Tensor, labels: Tensor, loss: Loss, balance: float) -> GradientReport:
    """Run one batch forward and backward in training mode and leave the model as it was.

    Batch statistics are used, as in training; running statistics and gradients are put back.

    Args:
        model: a wrapped network.
        images: a batch as the network takes it.
        labels: class indices ``[N]``.
        loss: as an objective, of output, labels and lambda.
        balance: lambda; 0 shows what reaches the layers without the method.
    """
    with preserving_state(model):
        loss(model(images), labels, balance).backward()  # type: ignore[no-untyped-call]
        first = next(iter(weights(model.network).values())).grad
        assert first is not None
        return GradientReport(gradient_rms(model.network), first.detach().float().flatten().cpu())
