"""Operations counted from spikes: by hand, and as SpikingJelly's counters count them on the same networks."""

from typing import Any

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from spikingjelly.activation_based.model import qkformer, sew_resnet, spikformer, spiking_resnet
from spikingjelly.activation_based.op_counter import DispatchCounterMode, MACCounter, SynOpCounter
from spikingjelly.activation_based.op_counter.simple_energy import SimpleEnergyCostConfig
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from shortcut_snn import nets
from shortcut_snn.analysis.energy import ADDITION, MULTIPLY_ACCUMULATE, count_operations, measure_energy
from shortcut_snn.neurons import LIF, use_packing


def settle(net: nn.Module, images: torch.Tensor) -> None:
    """Give a new network the statistics of a batch, at which its neurons fire."""
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
    with torch.no_grad():
        net.train()(images)


def test_by_hand():
    """Two spikes in a corner and one in the middle of a 3x3 image, through a 3x3 convolution that pads."""
    spikes = torch.zeros(1, 2, 3, 3)
    spikes[0, 0, 0, 0] = spikes[0, 1, 0, 0] = spikes[0, 1, 1, 1] = 1
    conv, linear = nn.Conv2d(2, 5, 3, padding=1), nn.Linear(18, 4)
    with count_operations(nn.Sequential(conv, linear)) as found:
        conv(spikes)
        linear(spikes.flatten(1))
        linear(spikes.flatten(1) * 0.5)
    assert found.layers["0"].additions == (4 + 4 + 9) * 5
    assert found.layers["0"].multiplications == 0
    assert found.layers["0"].dense == 9 * 18 * 5
    assert found.layers["1"].additions == 3 * 4
    assert found.layers["1"].multiplications == 18 * 4


def test_a_network_for_one_image():
    """The stem multiplies once, the rest adds for every spike, the readout of means multiplies once."""
    net = nets.spiking_resnet18(10, 3, width=4)
    settle(net, torch.randn(16, 3, 8, 8))
    report = measure_energy(net, [torch.randn(5, 3, 8, 8), torch.randn(3, 3, 8, 8)], 3)
    assert net.training
    found = {entry.layer: entry for entry in report.layers}
    stem, block, readout = found["stem.conv"], found["layer1.0.conv2"], found["classifier"]
    assert (stem.additions, stem.multiplications) == (0, 64 * 27 * 4)
    assert stem.relu_multiplications == stem.multiplications
    assert (readout.additions, readout.multiplications) == (0, 32 * 10)
    assert block.multiplications == 0
    assert 0 < block.additions < 3 * block.relu_multiplications == 3 * 64 * 9 * 16
    assert report.updates == 3 * 64 * (4 * 5 + 8 * 4 / 4 + 16 * 4 / 16 + 32 * 4 / 64)
    assert report.energy == pytest.approx(
        sum(0.9 * entry.additions + 4.6 * entry.multiplications for entry in report.layers)
    )
    assert report.relu_energy == pytest.approx(4.6 * sum(entry.relu_multiplications for entry in report.layers))


def spikingjellys(net: nn.Module, x: torch.Tensor) -> tuple[int, int]:
    """Additions and multiplications by SpikingJelly's counters; norms are folded, so not counted."""
    norms = [nn.BatchNorm2d, layer.BatchNorm2d, nn.BatchNorm1d]
    adds, multiplications = SynOpCounter(extra_ignore_modules=norms), MACCounter(extra_ignore_modules=norms)
    with torch.no_grad(), DispatchCounterMode([adds, multiplications]):
        net(x)
    return adds.get_total(), multiplications.get_total()


def counted_twice(net: nn.Module, frames: torch.Tensor) -> tuple[dict[str, Any], tuple[int, int]]:
    """Count by layer and as SpikingJelly does, which must agree."""
    expected = spikingjellys(net, frames)
    functional.reset_net(net)
    with count_operations(net) as found, torch.no_grad():
        net(frames)
    functional.reset_net(net)
    ours = found.layers.values()
    assert (sum(e.additions for e in ours), sum(e.multiplications for e in ours)) == expected
    return found.layers, expected


@pytest.mark.parametrize("make", [spiking_resnet.spiking_resnet18, sew_resnet.sew_resnet18])
def test_it_is_spikingjellys_count_on_its_networks(make):
    options = {"cnf": "ADD"} if make is sew_resnet.sew_resnet18 else {}
    net = make(spiking_neuron=neuron.LIFNode, num_classes=10, **options)
    functional.set_step_mode(net, "m")
    frames = torch.rand(2, 3, 3, 32, 32)
    _, expected = counted_twice(net, frames)
    assert min(expected) > 1e6


@pytest.mark.parametrize("make", [spikformer.Spikformer, qkformer.QKFormer])
def test_it_is_spikingjellys_count_on_its_transformers(make):
    options = {"num_heads": (1, 2, 2), "depths": (1, 1, 1)}
    if make is spikformer.Spikformer:
        options = {"img_size_h": 32, "img_size_w": 32, "patch_size": 4, "num_heads": 2, "depths": 1}
    net = make(T=2, num_classes=10, embed_dims=32, **options)
    frames = torch.randn(2, 3, 3, 32, 32)
    settle(net, frames)
    functional.reset_net(net)
    found, _ = counted_twice(net.eval(), frames)
    assert sum(e.additions for name, e in found.items() if "product" in name) > 100


@pytest.mark.parametrize(
    ("make", "block"),
    [(nets.spiking_resnet19, block) for block in ("basic", "sew", "ms")]
    + [(nets.spiking_qkformer, block) for block in ("sew", "ms")],
)
def test_it_is_spikingjellys_count_on_ours(make, block):
    net = make(10, 2, width=8, block=block, make_neuron=lambda: LIF(0.25))
    frames = torch.randn(2, 4, 3, 16, 16)
    settle(net, frames)
    expected = spikingjellys(net.eval(), frames)
    report = measure_energy(net, [frames], 2)
    additions, multiplications = (
        sum(getattr(entry, name) for entry in report.layers) * 4 for name in ("additions", "multiplications")
    )
    assert (additions, multiplications) == expected
    assert additions > 1e5


def test_the_figures_are_the_usual_ones():
    usual = SimpleEnergyCostConfig.fp32()
    assert (usual.e_mac_pj, usual.e_ac_pj) == (MULTIPLY_ACCUMULATE, ADDITION)


def test_the_convolution_that_keeps_bits_is_counted():
    """By our count, and by torch's of operations, backward pass and all."""
    net, images = nets.spiking_resnet18(10, 2, width=8), torch.randn(4, 3, 16, 16)
    counts, flops = [], []
    for when in ("always", "never"):
        state = {key: value.clone() for key, value in net.state_dict().items()}
        with use_packing(when), count_operations(net) as found, FlopCounterMode(display=False) as counter:
            net(images).sum().backward()
        net.load_state_dict(state)
        counts.append(found)
        flops.append(counter.get_total_flops())
    assert counts[0] == counts[1]
    assert flops[0] == flops[1] > 3 * 2 * sum(e.dense for e in counts[0].layers.values()) * 0.9


def test_modes_are_put_back_whatever_happens():
    net = nets.spiking_resnet18(10, 2, width=4)
    net.layer1.eval()
    before = [module.training for module in net.modules()]
    measure_energy(net, [torch.randn(2, 3, 8, 8)], 2)
    assert [module.training for module in net.modules()] == before
    with pytest.raises(ValueError, match="takes 3 channels"):
        measure_energy(net, [torch.randn(2, 5, 8, 8)], 2)
    assert [module.training for module in net.modules()] == before
    assert not any(module._forward_hooks for module in net.modules())


def test_a_network_that_keeps_a_state_begins_each_batch_at_rest():
    net = nn.Sequential(nn.Linear(3, 8), neuron.LIFNode(), nn.Linear(8, 10))
    batches = [torch.rand(4, 3) * 4, torch.rand(2, 3) * 4]
    both = measure_energy(net, batches, 1)
    assert net[1].v == 0.0
    single = [measure_energy(net, [one], 1).layers[1].additions for one in batches]
    assert both.layers[1].additions == pytest.approx((4 * single[0] + 2 * single[1]) / 6)
    torch.nn.init.constant_(net[0].bias, 0.9)
    calls = []
    measure_energy(net, batches[:1], 1, reset=lambda model: (calls.append(model), functional.reset_net(model)))
    assert calls
    assert not any(model is net for model in calls), "it is measured in a copy"


@pytest.mark.parametrize("over_time", [True, False])
def test_layers_of_tokens_are_no_layers_of_time_steps(over_time):
    """Of 4 tokens and 2 steps, a linear layer that runs once sees as many rows as divide by T."""

    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.mix = nn.Linear(3, 6), nn.Linear(6, 6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.embed(x.flatten(2).transpose(1, 2))
            return self.mix(x.expand(2, *x.shape) if over_time else x)

    embed, mix = measure_energy(Tokens(), [torch.rand(5, 3, 2, 2)], 2).layers
    assert embed.multiplications == embed.relu_multiplications == 4 * 3 * 6
    assert mix.relu_multiplications == 4 * 6 * 6
    assert mix.multiplications == (1 + over_time) * mix.relu_multiplications


def test_products_of_activations():
    """By hand: spikes with spikes, with numbers on either side, numbers with numbers."""

    class Products(nn.Module):
        def forward(self, spikes: torch.Tensor) -> None:
            numbers = spikes * 0.5
            spikes @ spikes.transpose(-2, -1)
            torch.matmul(spikes, numbers.mT)
            torch.bmm(numbers[0], spikes[0].transpose(-2, -1))
            numbers[:1].matmul(spikes.mT)
            numbers @ numbers.mT

    spikes = torch.zeros(2, 3, 4, 5)
    spikes[0, 0, 0, 0] = spikes[0, 0, 1, 0] = spikes[1, 2, 3, 4] = 1
    network = nn.ModuleList([Products()])
    with count_operations(network) as found:
        network[0](spikes)
    counted = [(e.additions, e.multiplications, e.dense) for e in found.layers.values()]
    assert list(found.layers) == [f"0 product {i + 1}" for i in range(5)]
    each = 3 * 2 * 4 * 4 * 5
    assert counted == [(4 + 1, 0, each), (3 * 4, 0, each), (2 * 4, 0, each // 2), (3 * 4, 0, each), (0, each, each)]


def test_the_products_of_a_transformer_for_one_image():
    net = nets.spiking_qkformer(10, 3, width=4, heads=2)
    settle(net, torch.randn(16, 3, 16, 16))
    report = measure_energy(net, [torch.randn(5, 3, 16, 16)], 3)
    found = {entry.layer: entry for entry in report.layers}
    first, second = (found[f"layer3.0.attention product {i}"] for i in (1, 2))
    # 16 tokens, 8 heads of 2 channels.
    assert first.relu_multiplications == second.relu_multiplications == 16 * 8 * 2 * 2
    assert first.multiplications == second.multiplications == 0
    assert 0 < first.additions < second.additions < 3 * second.relu_multiplications


def test_mistakes():
    with pytest.raises(ValueError, match="at least one input"):
        measure_energy(nn.Linear(2, 2), [], 1)
    with pytest.raises(ValueError, match="no convolutions"):
        measure_energy(nn.ReLU(), [torch.rand(2, 2)], 1)
