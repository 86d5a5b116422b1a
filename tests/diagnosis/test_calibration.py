"""Calibrated networks keep the gradient's norm, and the formula for a layer's gain holds where it should."""

import copy
import math
import statistics

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from shortcut_snn import Shortcut
from shortcut_snn.diagnosis.calibration import NARROWEST, WIDEST, calibrate, set_widths
from shortcut_snn.diagnosis.layers import chain, examine
from shortcut_snn.neurons import IF, LIF, PLIF, ATan, Rectangle, Sigmoid, Triangle
from studies.gain_formula import membranes, predicted_gains

from .helpers import batch, network


@pytest.mark.parametrize(
    ("surrogate", "block", "steps"),
    [
        (Rectangle(), "plain", 2),
        (Rectangle(4.0), "basic", 4),
        (Triangle(), "sew", 2),
        (ATan(), "ms", 2),
        (Sigmoid(), "basic", 1),
    ],
)
def test_the_gain_is_one_in_every_layer(surrogate, block, steps):
    net = network(surrogate, block, "resnet8", steps)
    seen, other = batch(), batch()
    state, random = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    widths = calibrate(net, [seen])
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    layers = examine(net, [seen]).layers
    assert len(widths) == len(layers) - 1
    norms = [layer.norm for layer in layers]
    assert max(norms) / min(norms) == pytest.approx(1.0, abs=0.01), "projections too"
    assert 0.3 < examine(net, [other]).factors[0] < 3.0, "on a batch that it has not seen"


@pytest.mark.parametrize("options", [{"reset": "soft"}, {"detach_reset": True}, {"decay": 1.0}])
def test_resets_and_leaks_are_in_what_is_measured(options):
    net = network(Rectangle(), "basic", "resnet8", 4, **options)
    one = batch()
    calibrate(net, [one])
    assert examine(net, [one]).factors[0] == pytest.approx(1.0, abs=0.01)


def test_a_hundred_layers_without_a_shortcut():
    net = network(Rectangle(), name="resnet110")
    one, other = batch(6), batch(6)
    assert examine(net, [one]).factors[0] > 1e9
    calibrate(net, [one])
    assert examine(net, [one]).factors[0] == pytest.approx(1.0, abs=0.02)
    assert 0.03 < examine(net, [other]).factors[0] < 30


def test_widths_are_means_over_batches():
    net, batches = network(Rectangle(), name="resnet8"), [batch(), batch()]
    single = [calibrate(copy.deepcopy(net), [one]) for one in batches]
    both = calibrate(net, batches)
    for name, width in both.items():
        assert width == pytest.approx(math.sqrt(single[0][name] * single[1][name]), rel=1e-3)


def test_a_wrapped_network_is_calibrated_on_any_loss():
    net, one = network(Rectangle(4.0), name="resnet8"), batch()
    model = Shortcut(net, "blocks", num_classes=10)

    def loss(output, labels):
        return F.cross_entropy(output.main + sum(output.branches), labels)

    calibrate(net, [one], loss, model=model)
    assert examine(model, [one], loss, network=net).factors[0] == pytest.approx(1.0, abs=0.01)


def test_out_of_reach_stops_at_the_ends():
    """A layer that is fed next to no gradient, and one that is fed far too much."""
    net, one = network(Rectangle()), batch()
    with torch.no_grad():
        net.layer3[0].spike1.norm.weight.fill_(1e-6)
        net.layer3[0].spike1.norm.bias.fill_(0.9)
    widths = calibrate(net, [one])
    assert all(NARROWEST <= width <= WIDEST for width in widths.values())
    assert widths["layer2.1.spike2"] == pytest.approx(NARROWEST, rel=1e-2)


def test_the_neurons_of_a_plif_network():
    net = nn.Sequential(nn.Linear(3, 8), PLIF(surrogate=ATan()), nn.Linear(8, 8), IF(), nn.Linear(8, 10))
    with torch.no_grad():
        net[2].weight.mul_(4)
    x, labels = torch.randn(2, 300, 3) * 3, torch.randint(10, (300,))
    loss = lambda y, labels: F.cross_entropy(y.mean(0), labels)  # noqa: E731
    widths = calibrate(net, [(x, labels)], loss)
    assert list(widths) == ["1"]
    assert examine(net, [(x, labels)], loss).factors[0] == pytest.approx(1.0, abs=0.02)


def test_mistakes():
    with pytest.raises(ValueError, match="no neurons of this library"):
        calibrate(nn.Linear(2, 2), [batch()])
    with pytest.raises(ValueError, match="at least one batch"):
        calibrate(network(Rectangle()), [])
    with pytest.raises(ValueError, match="no spiking layer 'layer9'"):
        set_widths(network(Rectangle()), {"layer9": 1.0})

    class Shapeless:
        def __call__(self, v):
            return torch.exp(-v.square())

    with pytest.raises(ValueError, match="has no width"):
        calibrate(network(Shapeless()), [batch()])

    shared = LIF(surrogate=ATan())
    several = nn.Sequential(nn.Linear(20, 30), shared, nn.Linear(30, 30), shared, nn.Linear(30, 30), LIF())
    with pytest.raises(ValueError, match=r"1 is called several times in a pass.*give each layer a neuron of its own"):
        calibrate(several, [(9 * torch.rand(4, 6, 20), torch.arange(6) % 3)], lambda out, y: out.square().mean())
    assert shared.surrogate == ATan()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in several.modules())


def test_membranes_are_those_that_fire():
    for neuron in (LIF(0.5), LIF(0.7, reset="soft"), IF(), PLIF(0.3)):
        current = torch.randn(5, 40, 3) * 2
        fired = membranes(neuron, current) > neuron.threshold
        assert torch.equal(fired.float(), neuron(current))


def ratios(surrogate, block: str, steps: int, **neuron) -> list[float]:
    """Measured over predicted gain of every layer but the last."""
    net, one = network(surrogate, block, steps=steps, **neuron), batch(48, 16)
    expected = predicted_gains(net.train(), one[0])
    layers = chain(examine(net, [one]).layers)
    return [layer.gain / expected[layer.layer] for layer in layers[:-1]]


@pytest.mark.parametrize("surrogate", [Rectangle(1.0), Rectangle(4.0), Triangle(), ATan()], ids=str)
def test_the_formula_holds_in_plain_networks_of_one_time_step(surrogate):
    found = ratios(surrogate, "plain", 1)
    assert statistics.geometric_mean(found) == pytest.approx(1.0, abs=0.05)
    assert all(0.85 < ratio < 1.15 for ratio in found)


@pytest.mark.parametrize(("block", "steps"), [("basic", 1), ("ms", 1), ("plain", 4)])
def test_the_formula_fails_where_it_should(block, steps):
    """Skip paths, and time, carry gradient that it does not know of; a wide surrogate shows it best."""
    assert statistics.geometric_mean(ratios(Rectangle(4.0), block, steps)) > 1.1


def test_a_network_without_gradient_through_time_is_calibrated_on_its_own():
    net = network(Rectangle(), steps=4, detach_membrane=True)
    one = batch()
    calibrate(net, [one])
    assert examine(net, [one]).factors[0] == pytest.approx(1.0, abs=0.02)


def test_what_needs_no_gradient_keeps_its_width():
    net = network(Rectangle())
    net.stem.requires_grad_(False)
    widths = calibrate(net, [batch()])
    assert "stem.spike" not in widths
    assert "layer1.0.spike1" in widths
