"""Every network, block and norm: spikes, gradients, branches, static images, and sizes of inputs."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from shortcut_snn.introspection.neurons import spiking_layers
from shortcut_snn.neurons import PLIF, ATan

from ..method.wrapped import wrapped
from .helpers import awake, by_name

# Every block and every norm, and every class of networks.
FAMILIES = [
    ("resnet8", "basic", "bn"), ("resnet8", "sew", "tdbn"), ("resnet8", "ms", "bn"), ("resnet8", "plain", "tdbn"),
    ("resnet19", "basic", "tdbn"), ("qkformer", "sew", "bn"), ("qkformer", "ms", "tdbn"), ("vgg11", None, "bn"),
]  # fmt: skip
NETWORKS = [("resnet8", "basic"), ("resnet19", "sew"), ("resnet20", "ms"), ("qkformer", "sew"), ("qkformer", "ms")]
NETWORKS += [(name, None) for name in ("vgg11", "vggsnn")]


def options(block: str | None) -> dict[str, str]:
    """Return the options of a block; VGGs have none."""
    return {} if block is None else {"block": block}


@pytest.mark.parametrize(("name", "block", "norm"), FAMILIES)
def test_spikes_gradients_and_branches(name: str, block: str | None, norm: str) -> None:
    make = partial(PLIF, surrogate=ATan())
    # With few tokens and channels, attention counts spikes too coarsely for every parameter to matter.
    width, side = (8, 16) if name == "qkformer" else (2, 8)
    network = by_name(name, 3, 2, width=width, norm=norm, **options(block), make_neuron=make)
    rates: dict[str, float] = {}

    def check(layer: str, spikes: Tensor) -> None:
        assert torch.equal(spikes, spikes.bool().to(spikes.dtype)), layer
        rates[layer] = spikes.mean().item()

    layers = spiking_layers(network)
    for layer, module in layers.items():
        module.register_forward_hook(lambda _module, _inputs, output, layer=layer: check(layer, output))
    model = wrapped(network, num_classes=3)
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


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize(("name", "block"), NETWORKS)
def test_a_static_image_equals_its_repetition_over_time(name: str, block: str | None, training: bool) -> None:
    images = torch.rand(3, 3, 8, 8, dtype=torch.float64).requires_grad_()
    network = awake(by_name(name, 3, 4, width=4, **options(block)).double(), images).train(training)
    calls: list[int] = []
    first = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    first.register_forward_hook(lambda _module, inputs, _output: calls.append(len(inputs[0])))
    results = []
    for x in (images, images.repeat(4, 1, 1, 1, 1)):
        logits = network(x)
        results.append([logits, *torch.autograd.grad(logits.square().sum(), [*network.parameters(), images])])
    torch.testing.assert_close(*results, rtol=1e-6, atol=1e-9)
    # The first convolution of a static image runs once.
    assert calls == [3, 12]


@pytest.mark.parametrize(
    ("name", "shape", "options"),
    [
        ("resnet8", (2, 3, 224, 224), {"stem": "large"}),
        ("vgg11", (2, 1, 8, 8), {"in_channels": 1}),
        ("vggsnn", (2, 2, 2, 48, 48), {"in_channels": 2}),
        ("qkformer", (2, 3, 13, 13), {}),
    ],
)
def test_images_and_frames_of_any_size_fit(name: str, shape: tuple[int, ...], options: dict) -> None:
    network = by_name(name, 5, 2, width=2, **options)
    assert network(torch.rand(shape)).shape == (2, 5)
    assert network(network.example_input()).shape == (2, 5)
