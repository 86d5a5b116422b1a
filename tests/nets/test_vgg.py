"""VGGs against plain torch operations, their layers, and refused options."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shortcut_snn import nets
from shortcut_snn.method import every_block, stage_ends
from shortcut_snn.neurons import LIF, ATan

from .by_hand import assert_equal, conv, normalised, randomise, spike


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
def test_values_and_gradients_equal_plain_operations(pooling: str, pool) -> None:
    make = partial(LIF, surrogate=ATan())
    network = nets.SpikingVGG([[1, 2], [3], [2, 2]], pooling, 4, 3, width=3, in_channels=2, make_neuron=make).double()
    randomise(network)
    frames = torch.rand(3, 2, 2, 8, 8, dtype=torch.float64)
    logits, expected = network(frames), by_hand(network, frames, pool)
    assert logits.std() > 0
    assert_equal(logits, expected, list(network.parameters()))


@pytest.mark.parametrize(
    ("make", "stages"),
    [
        (nets.spiking_vgg6, [[64], [64, 256], [256, 256], [256]]),
        (nets.spiking_vgg11, [[64], [128], [256, 256], [512, 512], [512, 512]]),
        (nets.spiking_vgg16, [[64, 64], [128, 128], [256] * 3, [512] * 3, [512] * 3]),
        (nets.spiking_vggsnn, [[64, 128], [256, 256], [512, 512], [512, 512]]),
    ],
)
def test_widths_are_those_of_the_papers(make, stages: list[list[int]]) -> None:
    with torch.device("meta"):
        network = make(10, 4)
    widths = [[layer.conv.out_channels for layer in network.get_submodule(name)] for name in network.stage_names]
    assert widths == stages
    pools = [m for m in network.modules() if isinstance(m, nn.MaxPool2d | nn.AvgPool2d)]
    assert len(pools) == len(stages) - 1
    assert all(isinstance(m, nn.AvgPool2d if make is nets.spiking_vggsnn else nn.MaxPool2d) for m in pools)


def test_a_branch_taps_spikes_at_each_pooling_level() -> None:
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


@pytest.mark.parametrize(
    ("widths", "pooling", "message"),
    [
        ([], "max", r"widths \[\]"),
        ([[2], []], "max", r"widths \[\[2\], \[\]\]"),
        ([[2], [2, 0]], "max", r"widths\[1\]\[1\]"),
        ([[2]], "sum", "sum.*max, average"),
    ],
)
def test_bad_sizes_are_refused(widths, pooling: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nets.SpikingVGG(widths, pooling, 3, 2)
