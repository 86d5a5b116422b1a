"""Every network with every block and norm: it builds, it spikes, gradients reach all of it, branches fit."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from shortcut_snn import Shortcut
from shortcut_snn.introspection import spiking_layers
from shortcut_snn.neurons import PLIF, ATan

from .helpers import RESNETS, VGGS, by_name

FAMILIES = [
    (name, block, norm) for name in RESNETS for block in ("basic", "sew", "ms", "plain") for norm in ("bn", "tdbn")
]
FAMILIES += [("qkformer", block, norm) for block in ("sew", "ms") for norm in ("bn", "tdbn")]
FAMILIES += [(name, None, norm) for name in VGGS for norm in ("bn", "tdbn")]


def options(block: str | None) -> dict[str, str]:
    """A VGG has no blocks."""
    return {} if block is None else {"block": block}


@pytest.mark.parametrize(("name", "block", "norm"), FAMILIES)
def test_a_family(name: str, block: str | None, norm: str) -> None:
    make = partial(PLIF, surrogate=ATan())
    # Attention counts spikes: of few tokens and channels too coarsely for every parameter to matter.
    width, side = (8, 16) if name == "qkformer" else (2, 8)
    network = by_name(name, 3, 2, width=width, norm=norm, **options(block), make_neuron=make)
    rates: dict[str, float] = {}

    def check(layer: str, spikes: Tensor) -> None:
        assert torch.equal(spikes, spikes.bool().to(spikes.dtype)), layer
        rates[layer] = spikes.mean().item()

    layers = spiking_layers(network)
    for layer, module in layers.items():
        module.register_forward_hook(lambda _module, _inputs, output, layer=layer: check(layer, output))
    model = Shortcut(network, num_classes=3)
    rates.clear()
    output = model(torch.rand(8, 3, side, side))
    assert set(rates) == set(layers)
    # In training mode normalisation keeps all layers alive.
    assert sum(rate > 0 for rate in rates.values()) > 0.8 * len(rates)
    assert output.main.shape == (8, 3)
    assert len(output.branches) == len(network.stage_names) - 1
    (output.main.square().sum() + sum(branch.square().sum() for branch in output.branches)).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize(("name", "block", "norm"), FAMILIES)
def test_the_full_size_has_the_classifier_last(name: str, block: str | None, norm: str) -> None:
    with torch.device("meta"):
        network = by_name(name, 10, 2, **options(block))
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert layers[-1] is network.classifier
    assert layers[0].in_channels == 3
