"""Batch normalisation folded into the convolutions before it: at inference it is a factor and a summand a channel."""

import copy
from typing import Any, cast

import torch
from torch import nn

from ..nets import SpikingNetwork, SpikingResNet
from ..nets.blocks import BasicBlock, Projection
from ..nets.membrane_stem import MembraneStem
from ..nets.ms import MSBlock
from ..nets.sew import SEWBlock, SpikingProjection
from ..nets.stems import Stem
from ..nets.vgg import ConvSpike
from ..neurons import CurrentNeuron, Neuron, NormNeuron

# Of each kind of module, its layers and the norms that follow them.
_FOLLOWED: dict[type, tuple[tuple[str, str], ...]] = {
    Stem: (("conv", "spike.norm"),),
    MembraneStem: (("conv", "norm"),),
    ConvSpike: (("conv", "spike.norm"),),
    Projection: (("conv", "norm"),),
    SpikingProjection: (("conv", "spike.norm"),),
    BasicBlock: (("conv1", "spike1.norm"), ("conv2", "spike2.norm")),
    SEWBlock: (("conv1", "spike1.norm"), ("conv2", "spike2.norm")),
    MSBlock: (("conv1", "spike2.norm"), ("conv2", "norm2")),
    SpikingResNet: (("hidden", "hidden_spike.norm"),),
}


@torch.no_grad()
def fold(network: SpikingNetwork) -> SpikingNetwork:
    """Return a copy for inference: no batch norms, biases in their place; same outputs to rounding.

    The copy's neurons are :class:`~shortcut_snn.neurons.CurrentNeuron`; the network itself is left as it is.

    Raises:
        ValueError: a batch norm without running statistics, or one that follows no layer it can go into; the message
            names it.
    """
    folded = copy.deepcopy(network).eval()
    for path, module in list(folded.named_modules()):
        for layer, norm in _FOLLOWED.get(type(module), ()):
            if (found := getattr(module, layer)) is not None:
                _fold_pair(found, module.get_submodule(norm), f"{path}.{norm}".lstrip("."))
                _replace(module, norm, nn.Identity())
    left = [path for path, module in folded.named_modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if left:
        raise ValueError(f"the batch norm {left[0]} follows no layer that it can be folded into")
    _bare_neurons(folded)
    return folded.requires_grad_(False)


def _fold_pair(layer: Any, norm: Any, path: str) -> None:
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError(f"the batch norm {path} has no running statistics, so it cannot be folded")
    # In double precision, so that only the result is rounded.
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    shift = -norm.running_mean.double() * scale
    if layer.bias is not None:
        shift = shift + layer.bias.double() * scale
    if norm.bias is not None:
        shift = shift + norm.bias.double()
    weight = layer.weight
    columns = scale.view(-1, *[1] * (weight.dim() - 1))
    layer.weight = nn.Parameter((weight.double() * columns).to(weight.dtype))
    layer.bias = nn.Parameter(shift.to(weight.dtype))


def _replace(module: nn.Module, path: str, new: nn.Module) -> None:
    owner, _, name = path.rpartition(".")
    setattr(module.get_submodule(owner), name, new)


def _bare_neurons(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, NormNeuron):
            setattr(module, name, CurrentNeuron(cast(Neuron, child.neuron)))
        elif isinstance(child, Neuron):
            setattr(module, name, CurrentNeuron(child))
        else:
            _bare_neurons(child)
