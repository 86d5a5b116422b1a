"""Energy of third-party networks, whose time loop, reset and batch axis are inferred."""

import copy
import warnings

import norse.torch as norse
import pytest
import snntorch
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn
from torch.nn import functional as F

from shortcut_snn import attach
from shortcut_snn.energy import measure_energy
from shortcut_snn.energy.counting import count_operations
from shortcut_snn.neurons import LIF, PSN

from ..method.wrapped import wrapped

# Different samples. Equal numbers of samples and time steps give no hint.
FRAMES = 3 * torch.rand(4, 4, 6, generator=torch.Generator().manual_seed(0))


def spikingjelly(mode: str) -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(layer.Linear(6, 8), neuron.LIFNode(), layer.Linear(8, 5))
    functional.set_step_mode(net, mode)
    return net


def leaky() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), snntorch.Leaky(beta=0.8, init_hidden=True), nn.Linear(8, 5))


class BatchFirst(nn.Module):
    """``[N, T, F]`` in and out."""

    def __init__(self) -> None:
        super().__init__()
        self.net = spikingjelly("m")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x.transpose(0, 1)).transpose(0, 1)


def by_hand(steps: nn.Module, reset) -> tuple[float, float]:
    """ACs and MACs per sample of a single-step network on frames ``[T, N, ...]``."""
    reset(steps)
    with count_operations(steps) as found, torch.no_grad():
        for step in FRAMES:
            steps(step)
    reset(steps)
    found = found.layers.values()
    return sum(each.acs for each in found) / 4, sum(each.macs for each in found) / 4


def reset(net: nn.Module) -> None:
    net[1].reset_mem()


@pytest.mark.parametrize("kind", ["m", "s", "batch first", "snntorch"])
def test_every_layout_gives_the_counts_of_single_steps(kind):
    make = {"batch first": BatchFirst, "snntorch": leaky}.get(kind, lambda: spikingjelly(kind))
    expected = by_hand(leaky(), reset) if kind == "snntorch" else by_hand(spikingjelly("s"), functional.reset_net)
    net, given = make(), FRAMES.transpose(0, 1) if kind == "batch first" else FRAMES
    if kind in ("s", "snntorch"):
        net = attach(net, [], example=FRAMES, loop="input", readout="mean")
    reports = [measure_energy(net, [given], 4), measure_energy(net, [given, given], 4)]
    for report in reports:
        found = report.layers
        assert sum(each.acs for each in found) == pytest.approx(expected[0])
        assert sum(each.macs for each in found) == pytest.approx(expected[1])
        assert [each.relu_macs for each in found] == [48, 40]
        assert report.updates == 4 * 8
        assert not report.uncounted
    assert expected[0] > 0
    assert expected[1] == 4 * 48


def test_a_static_batch_for_single_steps_needs_a_wrapper():
    net = spikingjelly("s")
    with pytest.raises(ValueError, match=r"loop=4, say, to show a static batch.*attach"):
        measure_energy(net, [FRAMES[0]], 4)
    wrapper = attach(net, [], example=FRAMES[0], loop=4)
    report = measure_energy(wrapper, [FRAMES[0]])
    assert [each.layer for each in report.layers] == ["0", "2"]
    assert report.layers[0].macs == 4 * 48
    assert report.updates == 4 * 8


@pytest.mark.parametrize("make", [leaky, lambda: spikingjelly("s")])
def test_time_steps_show_a_static_batch_that_often(make):
    """The first layer is counted as often as it runs."""
    x = FRAMES[0, :3]
    report = measure_energy(make(), [x], 5)
    assert report.layers[0].macs == 5 * 48
    assert report.updates == 5 * 8
    expected = measure_energy(attach(make(), [], example=x, loop=5, readout="mean", log=len), [x])
    assert report.layers == expected.layers


def test_labels_tell_samples_from_time_steps():
    net = spikingjelly("s")
    with pytest.raises(ValueError, match="attach"):
        measure_energy(net, [FRAMES[:3]])
    report = measure_energy(net, [FRAMES[:3]], labels=torch.arange(4))
    assert report.layers[0].macs == 3 * 48


def test_uncounted_weights_are_named():
    torch.manual_seed(0)
    net = norse.SequentialState(norse.LIFRecurrent(6, 8), nn.Linear(8, 5), norse.LI())
    with pytest.warns(UserWarning, match=r"not counted .* 0\.input_weights, 0\.recurrent_weights"):
        report = measure_energy(net, [FRAMES], 4)
    assert report.uncounted == ("0.input_weights", "0.recurrent_weights")
    assert [each.layer for each in report.layers] == ["1"]


class Breaks(nn.Module):
    """Fails on its second batch, behind the neurons."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.norm = spikingjelly("s"), nn.BatchNorm1d(5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.stack([self.norm(self.net(step)) for step in x])
        if x.shape[1] == 3:
            raise RuntimeError("no")
        return x


def test_the_network_is_unchanged_after_an_error():
    net = Breaks().train()
    net.norm.eval()
    net(FRAMES)
    modes = [module.training for module in net.modules()]
    state, potential = copy.deepcopy(net.state_dict()), net.net[1].v
    seen, before = torch.get_rng_state(), potential.clone()
    with pytest.raises(RuntimeError, match="no"):
        measure_energy(net, [FRAMES, FRAMES[:, :3]], 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        measure_energy(net, [FRAMES], 4)
    assert [module.training for module in net.modules()] == modes
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    assert net.net[1].v is potential
    assert torch.equal(potential, before)
    assert torch.equal(torch.get_rng_state(), seen)
    assert not any(module._forward_hooks for module in net.modules())


class Inside(nn.Module):
    """A static input, shown for four time steps inside."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 8), nn.Linear(8, 3)
        self.neuron = neuron.LIFNode(step_mode="m")

    def forward(self, x):
        return self.last(self.neuron(self.first(x.unsqueeze(0).repeat(4, 1, 1, 1)))).mean((0, 2))


def test_an_inner_time_loop_is_seen() -> None:
    network, x = Inside(), torch.rand(6, 5, 8)
    found, told = measure_energy(network, [x]), measure_energy(network, [x], 4)
    assert (found.bits, found.relu_energy, found.quantised_energy) == (3, told.relu_energy, told.quantised_energy)


class Attention(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.query = how, nn.Linear(6, 6, bias=False)

    def forward(self, x):
        q = self.query(x)
        if self.how == "@":
            return (q @ q.transpose(1, 2)).softmax(-1) @ q
        if self.how == "named":
            return torch.matmul(torch.matmul(input=q, other=q.transpose(1, 2)).softmax(-1), other=q)
        if self.how == "fused":
            return nn.functional.scaled_dot_product_attention(q, q, q)
        return torch.einsum("nij,njk->nik", torch.einsum("nij,nkj->nik", q, q).softmax(-1), q)


@pytest.mark.parametrize("how", ["named", "fused"])
def test_attention_costs_the_same_in_every_spelling(how: str) -> None:
    x = torch.randn(5, 4, 6)
    expected, found = (measure_energy(Attention(each), [x], 1) for each in ("@", how))
    assert [(layer.layer, layer.macs) for layer in found.layers] == [
        (layer.layer, layer.macs) for layer in expected.layers
    ]
    assert [layer.macs for layer in found.layers] == [144, 96, 96]


def test_uncounted_products_are_named() -> None:
    with pytest.warns(UserWarning, match="not counted in the energy of Attention: einsum in the network"):
        report = measure_energy(Attention("einsum"), [torch.randn(5, 4, 6)], 1)
    assert report.uncounted == ("einsum in the network",)
    with pytest.warns(UserWarning, match=r"not counted in the energy of Sequential: 1\.weight\. Only"):
        report = measure_energy(nn.Sequential(nn.Linear(6, 6), PSN(4)), [torch.randn(4, 5, 6)], 4)


class Tied(nn.Module):
    """Decodes with the weights of its encoder, in a function."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.neuron = encoder, LIF()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(self.neuron(self.encoder(x)), self.encoder.weight.t())


def test_weights_that_a_function_uses_once_more_are_named() -> None:
    with pytest.warns(UserWarning, match="not counted in the energy of Tied: linear in the network"):
        report = measure_energy(Tied(nn.Linear(6, 8)), [torch.rand(4, 5, 6)], 4)
    assert report.uncounted == ("linear in the network",)


def test_a_wrapper_costs_what_its_network_costs() -> None:
    network, x = nn.Sequential(nn.Linear(6, 8), LIF(), nn.Linear(8, 3)), 3 * torch.rand(4, 10, 6)
    model = wrapped(network, ["1"], num_classes=3, example=x, time_axis=0, readout=lambda output: output.mean(0))
    found, expected = measure_energy(model, [x]), measure_energy(network, [x])
    assert (found.energy, found.relu_energy) == (expected.energy, expected.relu_energy)


def test_a_layer_that_is_used_twice_costs_twice() -> None:
    first, second = nn.Linear(6, 6, bias=False), nn.Linear(6, 3, bias=False)
    report = measure_energy(nn.Sequential(first, nn.ReLU(), first, nn.ReLU(), second), [torch.randn(5, 6)], 1)
    assert report.energy == report.relu_energy == pytest.approx(4.6 * (36 + 36 + 18))


class Sum(nn.Module):
    """What SEW blocks pass on: counts, at some time steps greater than 1."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other, self.last = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        self.spike1, self.spike2 = neuron.IFNode(v_threshold=1.0), neuron.IFNode(v_threshold=1.0)
        with torch.no_grad():
            self.one.weight.copy_(torch.eye(4))
            self.other.weight.copy_(0.6 * torch.eye(4))
            self.one.bias.zero_()
            self.other.bias.zero_()

    def forward(self, x):
        return self.last(self.spike1(self.one(x)) + self.spike2(self.other(x)))


def test_integers_of_residual_sums_cost_the_same_step_by_step() -> None:
    torch.manual_seed(0)
    steps, sequence = Sum(), Sum()
    sequence.load_state_dict(steps.state_dict())
    functional.set_step_mode(sequence, "m")
    x = torch.ones(2, 3, 4)
    found = measure_energy(attach(steps, [], example=x, num_classes=2, loop="input", readout="mean"), [x])
    expected = measure_energy(sequence, [x])
    assert [layer.macs for layer in found.layers] == [layer.macs for layer in expected.layers]
    assert (found.energy, found.total_energy) == (expected.energy, expected.total_energy)


class Handmade(nn.Module):
    def forward(self, x):
        return (x.cumsum(0) > 1).float()


def test_unknown_neurons_are_named() -> None:
    network = nn.Sequential(nn.Linear(6, 8), Handmade(), nn.Linear(8, 3))
    with pytest.warns(UserWarning, match="membrane updates"):
        measure_energy(network, [3 * torch.rand(4, 10, 6)], 4)
