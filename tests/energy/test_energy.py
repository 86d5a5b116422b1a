"""Operations and energy, counted by hand and by SpikingJelly's counters on the same networks."""

import math
from functools import partial
from typing import Any

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from spikingjelly.activation_based.model import qkformer, sew_resnet, spikformer, spiking_resnet
from spikingjelly.activation_based.op_counter import DispatchCounterMode, MACCounter, SynOpCounter
from spikingjelly.activation_based.op_counter.analytical_energy import estimate_lemaire_energy
from torch import nn

from shortcut_snn import attach, nets
from shortcut_snn.energy import measure_energy
from shortcut_snn.energy.counting import count_operations
from shortcut_snn.energy.report import with_unit
from shortcut_snn.neurons import IF, ILIF, LIF, unrolled_spikes

from ..nets.helpers import awake


def test_operations_counted_by_hand():
    """Two spikes in a corner and one in the middle of a 3x3 image, through a 3x3 convolution that pads."""
    spikes = torch.zeros(1, 2, 3, 3)
    spikes[0, 0, 0, 0] = spikes[0, 1, 0, 0] = spikes[0, 1, 1, 1] = 1
    conv, linear = nn.Conv2d(2, 5, 3, padding=1), nn.Linear(18, 4)
    with count_operations(nn.Sequential(conv, linear)) as found:
        conv(spikes)
        linear(spikes.flatten(1))
        linear(spikes.flatten(1) * 0.5)
    assert found.layers["0"].acs == (4 + 4 + 9) * 5
    assert found.layers["0"].macs == 0
    assert found.layers["0"].dense == 9 * 18 * 5
    assert found.layers["0"].synapses == (4 * 4 + 4 * 6 + 9) * 2 * 5, "of corners, edges and the middle"
    assert found.layers["1"].acs == 3 * 4
    assert found.layers["1"].macs == 18 * 4


@pytest.mark.parametrize(
    ("block", "steps", "bits", "layout"), [("ms", 2, 3, torch.channels_last), ("basic", 1, 2, torch.contiguous_format)]
)
def test_an_integer_of_ilif_counts_as_that_many_spikes(block, steps, bits, layout):
    """Each layer does the ACs of the unrolled spikes, up to 3 per time step."""
    net = nets.spiking_resnet18(10, steps, width=4, block=block, make_neuron=partial(ILIF, max_spikes=3))
    awake(net, torch.randn(16, 3, 16, 16))
    net.eval().to(memory_format=layout)
    images = torch.randn(5, 3, 16, 16).contiguous(memory_format=layout)
    given: dict[str, torch.Tensor] = {}
    convolutions = {name: module for name, module in net.named_modules() if isinstance(module, nn.Conv2d)}
    for name, module in convolutions.items():
        module.register_forward_pre_hook(lambda _, args, name=name: given.update({name: args[0].detach()}))
    report = measure_energy(net, [images])
    found = {layer.layer: layer for layer in report.layers}
    fed = [name for name in convolutions if found[name].acs]
    assert len(fed) == len(convolutions) - 1 - 3 * (block == "ms"), "all but the stem, and shortcuts of currents"
    for name in fed:
        assert (given[name] > 1).any()
        spikes = unrolled_spikes(given[name].unflatten(0, (steps, 5)), 3)
        twin = nn.Sequential(convolutions[name])
        with count_operations(twin) as operations:
            twin(spikes.flatten(0, 1))
        expected = operations.layers["0"]
        assert expected.macs == found[name].macs == 0
        assert found[name].acs == pytest.approx(expected.acs / 5)
        assert found[name].spikes == pytest.approx(expected.spikes / 5)
    assert report.bits == bits, "as counts of up to 3 times as many spikes as time steps"


def test_stem_and_readout_do_macs_and_the_rest_does_acs():
    net = nets.spiking_resnet18(10, 3, width=4)
    awake(net, torch.randn(16, 3, 8, 8))
    report = measure_energy(net, [torch.randn(5, 3, 8, 8), torch.randn(3, 3, 8, 8)], 3)
    assert net.training
    found = {entry.layer: entry for entry in report.layers}
    stem, block, readout = found["stem.conv"], found["layer1.0.conv2"], found["classifier"]
    assert (stem.acs, stem.macs) == (0, 64 * 27 * 4)
    assert stem.relu_macs == stem.macs
    assert (readout.acs, readout.macs) == (0, 32 * 10)
    assert block.macs == 0
    assert 0 < block.acs < 3 * block.relu_macs == 3 * 64 * 9 * 16
    assert report.updates == 3 * 64 * (4 * 5 + 8 * 4 / 4 + 16 * 4 / 16 + 32 * 4 / 64)
    assert report.energy == pytest.approx(sum(0.9 * entry.acs + 4.6 * entry.macs for entry in report.layers))
    assert report.relu_energy == pytest.approx(4.6 * sum(entry.relu_macs for entry in report.layers))


def counts_of_spikingjelly(net: nn.Module, x: torch.Tensor) -> tuple[int, int]:
    """ACs and MACs by SpikingJelly's counters, without norms, which are folded."""
    norms = [nn.BatchNorm2d, layer.BatchNorm2d, nn.BatchNorm1d]
    acs, macs = SynOpCounter(extra_ignore_modules=norms), MACCounter(extra_ignore_modules=norms)
    with torch.no_grad(), DispatchCounterMode([acs, macs]):
        net(x)
    return acs.get_total(), macs.get_total()


def counted_by_both(net: nn.Module, frames: torch.Tensor) -> tuple[dict[str, Any], tuple[int, int]]:
    """Count by layer and as SpikingJelly does, which must agree."""
    expected = counts_of_spikingjelly(net, frames)
    functional.reset_net(net)
    with count_operations(net) as found, torch.no_grad():
        net(frames)
    functional.reset_net(net)
    ours = found.layers.values()
    assert (sum(e.acs for e in ours), sum(e.macs for e in ours)) == expected
    return found.layers, expected


@pytest.mark.parametrize("make", [spiking_resnet.spiking_resnet18, sew_resnet.sew_resnet18])
def test_counts_agree_with_spikingjelly_on_its_networks(make):
    options = {"cnf": "ADD"} if make is sew_resnet.sew_resnet18 else {}
    net = make(spiking_neuron=neuron.LIFNode, num_classes=10, **options)
    functional.set_step_mode(net, "m")
    frames = torch.rand(2, 2, 3, 32, 32)
    _, expected = counted_by_both(net, frames)
    assert min(expected) > 1e6


@pytest.mark.parametrize("make", [spikformer.Spikformer, qkformer.QKFormer])
def test_counts_agree_with_spikingjelly_on_its_transformers(make):
    options = {"num_heads": (1, 2, 2), "depths": (1, 1, 1)}
    if make is spikformer.Spikformer:
        options = {"img_size_h": 32, "img_size_w": 32, "patch_size": 4, "num_heads": 2, "depths": 1}
    net = make(T=2, num_classes=10, embed_dims=32, **options)
    frames = torch.randn(2, 3, 3, 32, 32)
    awake(net, frames)
    functional.reset_net(net)
    found, _ = counted_by_both(net.eval(), frames)
    assert sum(e.acs for name, e in found.items() if "product" in name) > 100


@pytest.mark.parametrize(
    ("make", "block"),
    [(nets.spiking_resnet19, "basic"), (nets.spiking_resnet19, "sew"), (nets.SpikingTransformer, "ms")],
)
def test_counts_agree_with_spikingjelly_on_built_in_networks(make, block):
    net = make(10, 2, width=8, block=block, make_neuron=lambda: LIF(0.25))
    frames = torch.randn(2, 4, 3, 16, 16)
    awake(net, frames)
    expected = counts_of_spikingjelly(net.eval(), frames)
    report = measure_energy(net, [frames], 2)
    acs, macs = (sum(getattr(entry, name) for entry in report.layers) * 4 for name in ("acs", "macs"))
    assert (acs, macs) == expected
    assert acs > 1e5


def test_each_batch_starts_from_the_initial_state():
    net = nn.Sequential(nn.Linear(3, 8), neuron.LIFNode(), nn.Linear(8, 10))
    batches = [torch.rand(4, 3) * 4, torch.rand(2, 3) * 4]
    both = measure_energy(net, batches, 1)
    assert net[1].v == 0.0
    single = [measure_energy(net, [one], 1).layers[1].acs for one in batches]
    assert both.layers[1].acs == pytest.approx((4 * single[0] + 2 * single[1]) / 6)
    torch.nn.init.constant_(net[0].bias, 0.9)
    calls = []
    measure_energy(net, batches[:1], 1, reset=lambda model: (calls.append(model), functional.reset_net(model)))
    assert calls
    assert not any(model is net for model in calls), "it is measured in a copy"


def test_a_layer_over_spikes_costs_the_same_with_time_and_batch_apart_or_merged():
    class Net(nn.Module):
        def __init__(self, merged):
            super().__init__()
            self.fire, self.conv, self.merged = LIF(), nets.SpikeConv2d(16, 16, 3, padding=1), merged

        def forward(self, x):
            spikes = self.fire(x)
            return self.conv(spikes.flatten(0, 1)).view_as(x) if self.merged else self.conv(spikes)

    frames = 2 * torch.rand(4, 3, 16, 6, 6)
    energies = [measure_energy(Net(merged), [frames], 4).layers[0] for merged in (True, False)]
    assert energies[0].acs == energies[1].acs > 0


@pytest.mark.parametrize("over_time", [True, False])
def test_tokens_are_not_taken_for_time_steps(over_time):
    """Of 4 tokens and 2 steps, a linear layer that runs once sees as many rows as divide by T."""

    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.mix = nn.Linear(3, 6), nn.Linear(6, 6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.embed(x.flatten(2).transpose(1, 2))
            return self.mix(x.expand(2, *x.shape) if over_time else x)

    embed, mix = measure_energy(Tokens(), [torch.rand(5, 3, 2, 2)], 2).layers
    assert embed.macs == embed.relu_macs == 4 * 3 * 6
    assert mix.relu_macs == 4 * 6 * 6
    assert mix.macs == (1 + over_time) * mix.relu_macs


def test_a_report_prints_a_table_with_units():
    spikes = (torch.rand(2, 4, 300) < 0.5).float()
    net = nn.Sequential(nn.Linear(300, 200), IF(), nn.Linear(200, 10))
    report = measure_energy(attach(net, [], example=spikes, batch_axis=1, log=len), [spikes])
    heading, columns, _, first, last, network = repr(report).splitlines()
    assert heading == "one input, 45 nm:"
    assert [cell.strip() for cell in columns.strip("|").split("|")][:4] == ["layer", "ACs", "MACs", "energy"]
    assert f"{report.layers[0].acs:,.0f}" in first
    assert with_unit(report.energy) in network
    assert " nJ" in network
    assert " pJ" in last or " nJ" in last


def test_matrix_products_of_activations():
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
    counted = [(e.acs, e.macs, e.dense) for e in found.layers.values()]
    assert list(found.layers) == [f"0 product {i + 1}" for i in range(5)]
    each = 3 * 2 * 4 * 4 * 5
    assert counted == [(4 + 1, 0, each), (3 * 4, 0, each), (2 * 4, 0, each // 2), (3 * 4, 0, each), (0, each, each)]


def test_errors_name_the_cause():
    with pytest.raises(ValueError, match="inputs"):
        measure_energy(nn.Linear(2, 2), [], 1)
    with pytest.raises(ValueError, match="list of batches"):
        measure_energy(nn.Linear(2, 2), torch.rand(2, 2))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no convolutions"):
        measure_energy(nn.ReLU(), [torch.rand(2, 2)], 1)


def test_energy_with_memory_calculated_by_hand():
    """T = 2, three inputs, two IF neurons, two outputs, every weight 1: the accesses counted on paper.

    Of the inputs, two spikes come first, then one: both neurons reach 2 > 1.5, fire once, and reach 1 after that.
    """
    net = nn.Sequential(nn.Linear(3, 2, bias=False), IF(threshold=1.5), nn.Linear(2, 2, bias=False))
    for parameter in net.parameters():
        nn.init.ones_(parameter)
    spikes = torch.tensor([[[1.0, 0, 1]], [[0, 1.0, 0]]])
    report = measure_energy(attach(net, [], example=spikes, batch_axis=1), [spikes], 2)
    first, second = report.layers
    # 6 additions: 6 weights and 6 potentials read, 6 written. 3 spikes written, 3 read. 2 neurons, 2 steps: 4 of each.
    assert first.total_energy == pytest.approx(5 * (18 + 6 + 8) + 6 * 0.1 + 4 * (3.1 + 0.1))
    # 4 additions: 12. 2 spikes: 4. No neuron behind it.
    assert second.total_energy == pytest.approx(5 * (12 + 4) + 4 * 0.1)
    # 2 bits. 6 weights of 32 bits read, 6 activations of 2 bits read, 3 written; 6 products of 2 of 32 bits.
    assert report.bits == 2
    assert first.quantised_energy == pytest.approx(5 * (6 + 6 / 16 + 3 / 16) + 6 * (3.1 / 16 + 0.1))
    assert second.quantised_energy == pytest.approx(5 * (4 + 4 / 16 + 2 / 16) + 4 * (3.1 / 16 + 0.1))
    assert (first.firing_rate, second.firing_rate, report.firing_rate) == (3 / 6, 2 / 4, 5 / 10)
    assert report.total_energy == pytest.approx(173.4 + 80.4)
    assert report.quantised_energy == pytest.approx(34.575 + 23.05)
    # Of 253.8, the neurons take 4 x 13.2 whatever is fired: 4.825 is left for what are now 201 at a rate of 1/2.
    assert report.break_even_rate == pytest.approx(4.825 / 201 / 2)


@pytest.mark.parametrize("make", [partial(nn.Conv2d, 4, 6, 3, 2, 1, groups=2), partial(nn.Conv2d, 4, 6, 3, padding=2)])
def test_synapses_are_the_acs_of_an_input_of_ones(make):
    conv = make()
    with count_operations(nn.Sequential(conv)) as found:
        conv(torch.ones(3, 4, 5, 5))
    (layer,) = found.layers.values()
    assert layer.acs == layer.synapses < layer.dense
    with count_operations(nn.Sequential(conv)) as again:
        conv(torch.rand(3, 4, 5, 5))
    assert again.layers["0"].synapses == layer.synapses


def test_numbers_cost_the_same_in_the_quantised_network():
    """A layer that sees an image, and its means: 32 bits each, once, spiking or not."""
    report = measure_energy(nn.Sequential(nn.Flatten(), nn.Linear(12, 5)), [torch.rand(4, 3, 2, 2)])
    (layer,) = report.layers
    assert layer.bits == 32
    assert report.total_energy == report.quantised_energy == pytest.approx(60 * (3.1 + 0.1 + 10) + 12 * 5)
    assert math.isnan(report.break_even_rate)
    assert math.isnan(report.firing_rate)


@pytest.mark.parametrize(("steps", "bits"), [(1, 1), (3, 2), (4, 3), (8, 4)])
def test_bits_of_the_quantised_network(steps, bits):
    spikes, net = torch.ones(steps, 5, 3), nn.Sequential(nn.Linear(3, 2), IF())
    report = measure_energy(attach(net, [], example=spikes, batch_axis=1), [spikes], steps)
    assert report.bits == bits == math.ceil(math.log2(steps + 1))


def test_energies_are_equal_at_the_break_even_rate():
    """The same network on fewer and fewer spikes: energy falls along the line, and below the quantised one's."""
    steps = 4
    spikes = (torch.rand(steps, 5, 64) < 0.5).float()
    net = attach(nn.Sequential(nn.Linear(64, 32), IF(threshold=1e9)), [], example=spikes, batch_axis=1)
    often = measure_energy(net, [spikes], steps)
    assert often.total_energy > often.quantised_energy
    below = above = 0
    for rate in torch.linspace(0.5, 1.5, 12) * often.break_even_rate:
        found = measure_energy(net, [(torch.rand(steps, 5, 64) < rate).float()], steps)
        assert found.total_energy == pytest.approx(often.at(found.firing_rate))
        assert found.quantised_energy == often.quantised_energy
        less = found.firing_rate < often.break_even_rate
        assert less == (found.total_energy < found.quantised_energy)
        below, above = below + less, above + (not less)
    assert min(below, above) > 2
    # Yan et al. (2024) find 6.4 % for 5 to 10 time steps, Dampfhoffer et al. (2023) 0.15 to 1.38 spikes a synapse.
    assert 0.15 < steps * often.break_even_rate < 1.38


def test_updates_belong_to_the_layer_before_the_neurons():
    net = nets.spiking_resnet18(10, 3, width=4)
    found = {entry.layer: entry for entry in measure_energy(net, [torch.randn(2, 3, 8, 8)], 3).layers}
    assert found["stem.conv"].updates == 3 * 64 * 4
    assert found["classifier"].updates == 0
    first = measure_energy(nn.Sequential(IF(), nn.Linear(6, 8), IF()), [torch.rand(4, 2, 6)], 4)
    assert first.layers[0].updates == 4 * (6 + 8)


def test_accesses_are_counts_of_spikingjelly():
    """Which counts them as Lemaire et al. do: weights, potentials, spikes, in bytes of 4 to a word."""
    net = nn.Sequential(
        layer.Linear(20, 16, bias=False), neuron.LIFNode(), layer.Linear(16, 8, bias=False), neuron.LIFNode()
    )
    functional.set_step_mode(net, "m")
    frames = (torch.rand(4, 5, 20) < 0.4).float()
    with torch.no_grad():
        net[0].weight.fill_(0.5)
    theirs = estimate_lemaire_energy(net, frames).counts
    functional.reset_net(net)
    report = measure_energy(net, [frames], 4, labels=torch.arange(5))
    additions = 5 * sum(entry.acs for entry in report.layers)
    assert theirs["read_params_bytes"] == pytest.approx(4 * additions)
    assert theirs["read_in_bytes"] == pytest.approx(4 * 5 * sum(entry.spikes for entry in report.layers))
    potentials = 4 * (additions + 5 * report.updates)
    assert theirs["read_potential_bytes"] == theirs["write_potential_bytes"] == pytest.approx(potentials)
    assert report.layers[1].spikes > 5


class Counting(nn.Module):
    """Multiplies the integers of an I-LIF neuron by each other, by weights and by a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.spike, self.gate, self.last = ILIF(max_spikes=3), LIF(), nn.Linear(5, 2)
        self.weight, self.unused = nn.Parameter(torch.randn(5, 7)), nn.Parameter(torch.randn(5, 7))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.counts, self.mask = self.spike(x), self.gate(x)
        self.counts @ self.counts.mT
        self.counts @ self.weight
        torch.mm(self.weight.T, self.counts[0, 0].T)
        return self.last(input=self.mask * self.counts)


def test_products_and_masks_of_integers_are_accumulates() -> None:
    torch.manual_seed(0)
    net, x = Counting(), 2 * torch.randn(3, 4, 6, 5)
    with pytest.warns(UserWarning, match="not counted in the energy of Counting: unused. Only"):
        report = measure_energy(net, [x])
    net(x)
    counts, sums = net.counts, net.counts.sum()
    assert counts.max() == 3
    expected = [(counts @ counts.mT).sum(), 7 * sums, 7 * counts[0, 0].sum(), 2 * (net.mask * counts).sum()]
    found = {layer.layer: layer for layer in report.layers}
    assert [found[f"product {i}"].acs * 4 for i in (1, 2, 3)] + [found["last"].acs * 4] == expected
    assert not any(layer.macs for layer in report.layers)
    assert {layer.bits for layer in report.layers} == {4}, "of counts up to 9"


class Copying(nn.Module):
    """Flattens the integers of an I-LIF neuron into a copy before its next layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.spike, self.last = nn.Conv2d(1, 4, 3), ILIF(max_spikes=3), nn.Linear(4 * 36, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        spikes = self.spike(4 * self.first(x).contiguous(memory_format=torch.channels_last).unsqueeze(0))
        return self.last(spikes.flatten(2).squeeze(0))


def test_integers_that_a_flatten_copies_are_spikes():
    torch.manual_seed(0)
    net = Copying().eval()
    report = measure_energy(net, [torch.randn(4, 1, 8, 8)])
    last = next(layer for layer in report.layers if layer.layer == "last")
    assert last.macs == 0
    assert last.acs > 0
