"""A calibrated network keeps the gradient's norm through depth, whichever library its neurons come from."""

import copy
import math
import statistics

import norse.torch as norse
import pytest
import snntorch
import torch
from spikingjelly.activation_based import neuron
from torch import Tensor, nn
from torch.nn import functional as F

from shortcut_snn import Shortcut, attach
from shortcut_snn.diagnosis import NARROWEST, WIDEST, calibrate, chain, examine, set_widths
from shortcut_snn.introspection import steepness
from shortcut_snn.neurons import IF, LIF, PLIF, ATan, Rectangle, Triangle
from studies.gain_formula import membranes, predicted_gains

from ..deep_peers import DEEP, DEPTH, Looped, digits, leaky, parameters, plain, spikingjelly
from .helpers import batch, network


def loss_of_mean(output: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(output.mean(0), labels)


def norms(net: nn.Module, batch: tuple[Tensor, Tensor]) -> list[float]:
    layers = examine(net, [batch], loss_of_mean).layers
    return [layer.norm / layers[-1].norm for layer in layers]


@pytest.mark.parametrize(
    ("surrogate", "block", "steps", "neuron"),
    [
        (Rectangle(), "plain", 2, {"reset": "soft"}),
        (Triangle(), "sew", 4, {"detach_membrane": True}),
        (ATan(), "ms", 1, {"decay": 1.0}),
    ],
)
def test_every_layer_gets_the_norm_of_the_last(surrogate, block, steps, neuron):
    net = network(surrogate, block, "resnet8", steps, **neuron)
    seen, unseen = batch(), batch()
    state, random = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    widths = calibrate(net, [seen])
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    layers = examine(net, [seen]).layers
    assert len(widths) == len(layers) - 1
    norms = [layer.norm for layer in layers]
    assert max(norms) / min(norms) == pytest.approx(1.0, abs=0.01), "projections too"
    assert 0.3 < examine(net, [unseen]).factors[0] < 3.0


@pytest.mark.parametrize("case", DEEP)
def test_third_party_layers_get_the_norm_of_the_last(case: str) -> None:
    net, seen, unseen = DEEP[case](), digits(), digits(64)
    state, random = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    before = norms(net, seen)
    assert max(before) / min(before) > 1.5
    widths = calibrate(net, [seen], loss_of_mean)
    assert len(widths) == DEPTH - 1
    assert norms(net, seen) == pytest.approx([1.0] * DEPTH, abs=0.01)
    assert all(0.3 < norm < 3.0 for norm in norms(net, unseen))
    assert net.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
    fresh = DEEP[case]()
    fresh.load_state_dict(state)
    set_widths(fresh, widths)
    assert norms(fresh, seen) == pytest.approx(norms(net, seen), rel=1e-3)


def test_thirty_plain_layers():
    net = network(Rectangle(), name="resnet34")
    seen, unseen = batch(6), batch(6)
    assert examine(net, [seen]).factors[0] > 1e3
    calibrate(net, [seen])
    assert examine(net, [seen]).factors[0] == pytest.approx(1.0, abs=0.02)
    assert 0.03 < examine(net, [unseen]).factors[0] < 30


def test_widths_are_geometric_means_over_batches():
    net, batches = network(Rectangle(), name="resnet8"), [batch(), batch()]
    single = [calibrate(copy.deepcopy(net), [one]) for one in batches]
    both = calibrate(net, batches)
    for name, width in both.items():
        assert width == pytest.approx(math.sqrt(single[0][name] * single[1][name]), rel=1e-3)


def test_a_wrapped_network_is_calibrated_with_its_branches():
    net, one = network(Rectangle(4.0), name="resnet8"), batch()
    model = Shortcut(net, "blocks", num_classes=10)

    def loss(output, labels):
        return F.cross_entropy(output.main + sum(output.branches), labels)

    calibrate(net, [one], loss, model=model)
    assert examine(model, [one], loss, network=net).factors[0] == pytest.approx(1.0, abs=0.01)


def test_a_tap_on_a_neuron_takes_part():
    """Its branch reads the output of the neuron itself, where the graph is cut."""
    net, (x, labels) = spikingjelly("m"), digits()
    tapped = [name for name, module in net.named_modules() if isinstance(module, neuron.BaseNode)][1:3]
    model = attach(net, tapped, example=x, batch_axis=1, log=len)

    def loss(output, labels):
        return F.cross_entropy(output.main + sum(output.branches), labels)

    calibrate(net, [(x, labels)], loss, model=model)
    assert examine(model, [(x, labels)], loss, network=net).factors[0] == pytest.approx(1.0, abs=0.01)


def test_widths_out_of_reach_end_at_the_limits():
    """One layer gets next to no gradient, another far too much."""
    net, one = network(Rectangle()), batch()
    with torch.no_grad():
        net.layer3[0].spike1.norm.weight.fill_(1e-6)
        net.layer3[0].spike1.norm.bias.fill_(0.9)
    widths = calibrate(net, [one])
    assert all(NARROWEST <= width <= WIDEST for width in widths.values())
    assert widths["layer2.1.spike2"] == pytest.approx(NARROWEST, rel=1e-2)


def test_the_norm_may_rise_and_fall_with_the_steepness() -> None:
    """With few neurons and one time step, bisecting the whole range would go the wrong way."""
    (x, labels), net = digits(), spikingjelly("m")
    few, (*_, tried, linear, _, _) = (x[:1, :4], labels[:4]), net
    linear.weight.data *= 8

    def norm(alpha: float) -> float:
        steepness(tried, alpha)
        return norms(net, few)[-2]

    assert norm(0.02) < 1.0 < norm(0.5)
    assert norm(128.0) < 1.0
    for alpha in (0.02, 8.0):
        steepness(tried, alpha)
        calibrate(net, [few], loss_of_mean)
        assert norms(net, few)[-2] == pytest.approx(1.0, abs=0.01)


def test_neurons_with_parameters():
    net = nn.Sequential(nn.Linear(3, 8), PLIF(surrogate=ATan()), nn.Linear(8, 8), IF(), nn.Linear(8, 10))
    with torch.no_grad():
        net[2].weight.mul_(4)
    data = torch.randn(2, 300, 3) * 3, torch.randint(10, (300,))
    widths = calibrate(net, [data], loss_of_mean)
    assert list(widths) == ["1"]
    assert examine(net, [data], loss_of_mean).factors[0] == pytest.approx(1.0, abs=0.02)


def test_frozen_layers_keep_their_widths():
    net = network(Rectangle())
    net.stem.requires_grad_(False)
    widths = calibrate(net, [batch()])
    assert "stem.spike" not in widths
    assert "layer1.0.spike1" in widths


def test_errors_name_the_cause():
    with pytest.raises(ValueError, match="Linear has no surrogate"):
        calibrate(nn.Linear(2, 2), [batch()])
    with pytest.raises(ValueError, match="batches"):
        calibrate(network(Rectangle()), [])
    with pytest.raises(ValueError, match="layer9"):
        set_widths(network(Rectangle()), {"layer9": 1.0})
    with pytest.raises(ValueError, match="resized"):
        calibrate(network(lambda v: torch.exp(-v.square())), [batch()])


@pytest.mark.parametrize("neuron", [LIF(surrogate=ATan()), neuron.LIFNode(step_mode="m")], ids=["built-in", "theirs"])
def test_a_neuron_of_several_layers_is_refused(neuron):
    linears = [nn.Linear(20, 20) for _ in range(3)]
    for linear in linears:
        linear.weight.data *= 3
    net = nn.Sequential(linears[0], neuron, linears[1], neuron, linears[2], LIF())
    with pytest.raises(ValueError, match="its own neuron"):
        calibrate(net, [(9 * torch.rand(4, 6, 20), torch.arange(6) % 3)], lambda out, y: out.square().mean())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_surrogates_without_a_width_are_refused() -> None:
    straight = snntorch.surrogate.straight_through_estimator()
    super_spike = plain(lambda: norse.LIFCell(p=parameters("super")), norse.SequentialState)
    for net in (plain(lambda: leaky(spike_grad=straight)), super_spike):
        looped = Looped(net, carry=("state",) if net is super_spike else ())
        with pytest.raises(ValueError, match=r"surrogate of network\.\d+, .* has no width"):
            calibrate(looped, [digits()], loss_of_mean)
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in looped.modules())


def test_membranes_are_those_that_fire():
    for layer in (LIF(0.5), LIF(0.7, reset="soft"), IF(), PLIF(0.3)):
        current = torch.randn(5, 40, 3) * 2
        assert torch.equal((membranes(layer, current) > layer.threshold).float(), layer(current))


def gain_ratios(surrogate, block: str, steps: int) -> list[float]:
    """Measured over predicted gain of every layer but the last."""
    net, one = network(surrogate, block, steps=steps), batch(48, 16)
    expected = predicted_gains(net.train(), one[0])
    layers = chain(examine(net, [one]).layers)
    return [layer.gain / expected[layer.layer] for layer in layers[:-1]]


@pytest.mark.parametrize("surrogate", [Rectangle(4.0), ATan()], ids=str)
def test_the_gain_formula_holds_in_plain_networks_of_one_time_step(surrogate):
    ratios = gain_ratios(surrogate, "plain", 1)
    assert statistics.geometric_mean(ratios) == pytest.approx(1.0, abs=0.05)
    assert all(0.85 < ratio < 1.15 for ratio in ratios)


@pytest.mark.parametrize(("block", "steps"), [("ms", 1), ("plain", 3)])
def test_the_gain_formula_fails_with_skip_paths_and_with_time(block, steps):
    """It does not know of the gradient that they carry, which a wide surrogate shows best."""
    assert statistics.geometric_mean(gain_ratios(Rectangle(4.0), block, steps)) > 1.1
