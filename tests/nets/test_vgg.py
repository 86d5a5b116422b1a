"""VGGs: against plain torch operations, their layers, sizes of images, and what they refuse."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shortcut_snn import nets
from shortcut_snn.method import every_block, stage_ends
from shortcut_snn.neurons import LIF, ATan

from .by_hand import conv, normalised, randomise, spike
from .helpers import VGGS, awake, by_name


def by_hand(network: nets.SpikingVGG, frames: Tensor, pool) -> Tensor:
    """Logits of a VGG in training mode."""
    x = frames
    for number, stage in enumerate(network.stage_names):
        if number:
            x = pool(x.flatten(0, 1), 2).unflatten(0, x.shape[:2])
        for block in network.get_submodule(stage):
            x = spike(normalised(block.spike.norm, conv(block.conv, x)))
    return x.mean((0, 3, 4)) @ network.classifier.weight.T + network.classifier.bias


@pytest.mark.parametrize(("pooling", "pool"), [("max", F.max_pool2d), ("average", F.avg_pool2d)])
def test_values_and_gradients_are_those_of_plain_operations(pooling: str, pool) -> None:
    make = partial(LIF, surrogate=ATan())
    network = nets.SpikingVGG([[3, 4], [5], [6, 6]], 4, 3, pooling=pooling, in_channels=2, make_neuron=make).double()
    randomise(network)
    frames = torch.rand(3, 2, 2, 8, 8, dtype=torch.float64)
    logits, expected = network(frames), by_hand(network, frames, pool)
    assert logits.std() > 0
    torch.testing.assert_close(logits, expected)
    wanted = list(network.parameters())
    gradients = torch.autograd.grad(logits.square().sum(), wanted)
    for gradient, reference in zip(gradients, torch.autograd.grad(expected.square().sum(), wanted), strict=True):
        torch.testing.assert_close(gradient, reference, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("make", "stages"),
    [
        (nets.spiking_vgg11, [[64], [128], [256, 256], [512, 512], [512, 512]]),
        (nets.spiking_vgg16, [[64, 64], [128, 128], [256] * 3, [512] * 3, [512] * 3]),
        (nets.spiking_vggsnn, [[64, 128], [256, 256], [512, 512], [512, 512]]),
    ],
)
def test_the_full_size_is_that_of_the_papers(make, stages: list[list[int]]) -> None:
    with torch.device("meta"):
        network = make(10, 4)
    found = [[layer.conv.out_channels for layer in network.get_submodule(name)] for name in network.stage_names]
    assert found == stages
    pools = [m for m in network.modules() if isinstance(m, nn.MaxPool2d | nn.AvgPool2d)]
    assert len(pools) == len(stages) - 1
    assert all(isinstance(m, nn.AvgPool2d if make is nets.spiking_vggsnn else nn.MaxPool2d) for m in pools)


@pytest.mark.parametrize("side", [8, 28, 48, 224])
@pytest.mark.parametrize("name", VGGS)
def test_any_size_of_image_fits(name: str, side: int) -> None:
    network = by_name(name, 5, 2, width=2, in_channels=2)
    assert network(torch.rand(2, 2, 2, side, side)).shape == (2, 5)


def test_a_branch_sees_spikes_at_each_pooling_level() -> None:
    network = nets.spiking_vggsnn(3, 2, width=2)
    assert stage_ends(network) == ["stage1", "stage2", "stage3"]
    assert every_block(network) == [f"stage{i}.{j}" for i in range(1, 5) for j in range(2)][:-1]
    sizes = {}
    for name in network.stage_names:
        network.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, out, name=name: sizes.update({name: (out.shape, set(out.unique().tolist()))})
        )
    network(torch.rand(2, 3, 32, 32))
    assert [shape[-1] for shape, _ in sizes.values()] == [32, 16, 8, 4]
    assert all(values <= {0.0, 1.0} for _, values in sizes.values())


def test_a_static_image_passes_the_first_convolution_once() -> None:
    network = nets.spiking_vgg11(3, 5, width=2)
    calls: list[int] = []
    for layer in (network.stage1[0].conv, network.stage2[0].conv):
        layer.register_forward_hook(lambda _module, inputs, _output: calls.append(len(inputs[0])))
    network(torch.rand(2, 3, 8, 8))
    assert calls == [2, 10]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", VGGS)
def test_a_static_image_is_its_repetition_over_time(name: str, training: bool) -> None:
    images = torch.rand(3, 3, 8, 8, dtype=torch.float64)
    network = awake(by_name(name, 3, 4, width=2).double(), images).train(training)
    torch.testing.assert_close(network(images), network(images.repeat(4, 1, 1, 1, 1)), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "layer"}, "unknown norm 'layer': use one of bn, tdbn"),
        ({"width": 0}, "width must be at least 1, got 0"),
        ({"readout": "last"}, "readout must be one of mean, sequence, got 'last'"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nets.spiking_vgg11(3, 2, **options)


@pytest.mark.parametrize(
    ("widths", "options", "message"),
    [
        ([], {}, r"every stage needs a layer, got widths \[\]"),
        ([[2], []], {}, r"every stage needs a layer, got widths \[\[2\], \[\]\]"),
        ([[2], [2, 0]], {}, r"widths\[1\]\[1\] must be at least 1, got 0"),
        ([[2]], {"pooling": "sum"}, "unknown pooling 'sum': use one of max, average"),
    ],
)
def test_a_shape_that_makes_no_sense_is_refused(widths, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nets.SpikingVGG(widths, 3, 2, **options)
