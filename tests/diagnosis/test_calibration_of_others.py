"""Surrogates of SpikingJelly, snnTorch and Norse calibrated: every layer's gradient has the norm of the last one's."""

import copy

import norse.torch as norse
import pytest
import snntorch
import torch
from spikingjelly.activation_based import neuron, surrogate
from torch import Tensor, nn
from torch.nn import functional as F

from shortcut_snn.diagnosis import calibrate, examine, set_widths
from shortcut_snn.introspection import steepness
from shortcut_snn.neurons import IF, ATan

from ..deep_peers import DEEP, DEPTH, Looped, digits, leaky, parameters, plain, spikingjelly


def loss(output: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(output.mean(0), labels)


def norms(network: nn.Module, batch: tuple[Tensor, Tensor]) -> list[float]:
    layers = examine(network, [batch], loss).layers
    return [each.norm / layers[-1].norm for each in layers]


@pytest.mark.parametrize("case", DEEP)
def test_the_gain_is_one_in_every_layer(case: str) -> None:
    network, seen, unseen = DEEP[case](), digits(), digits(64)
    state, random = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    before = norms(network, seen)
    assert max(before) / min(before) > 1.5
    widths = calibrate(network, [seen], loss)
    assert len(widths) == DEPTH - 1
    assert norms(network, seen) == pytest.approx([1.0] * DEPTH, abs=0.01)
    assert all(0.3 < norm < 3.0 for norm in norms(network, unseen)), "on a batch that it has not seen"
    assert network.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    fresh = DEEP[case]()
    fresh.load_state_dict(state)
    set_widths(fresh, widths)
    assert norms(fresh, seen) == pytest.approx(norms(network, seen), rel=1e-3)


def test_the_norm_may_rise_and_fall_with_the_steepness() -> None:
    """Few neurons, one time step: halving an interval from end to end would go the wrong way."""
    (x, labels), network = digits(), spikingjelly("m")
    batch, (*_, tried, linear, _, _) = (x[:1, :4], labels[:4]), network
    linear.weight.data *= 8

    def norm(alpha: float) -> float:
        steepness(tried, alpha)
        return norms(network, batch)[-2]

    assert norm(0.02) < 1.0 < norm(0.5)
    assert norm(128.0) < 1.0
    for alpha in (0.02, 8.0):
        steepness(tried, alpha)
        calibrate(network, [batch], loss)
        assert norms(network, batch)[-2] == pytest.approx(1.0, abs=0.01)


def test_widths_are_those_of_the_same_neurons_of_ours() -> None:
    """Two ways to calculate them, and two libraries: alpha is 2 over the width."""
    theirs = spikingjelly("m", lambda: neuron.IFNode(surrogate_function=surrogate.ATan()))
    ours = plain(lambda: IF(surrogate=ATan()))
    expected = calibrate(ours, [digits()], loss)
    found = calibrate(theirs, [digits()], loss)
    assert found == pytest.approx({name: 2.0 / width for name, width in expected.items()}, rel=3e-3)


def test_what_cannot_be_calibrated_is_refused_and_left_as_it_was() -> None:
    straight = snntorch.surrogate.straight_through_estimator()
    super_spike = plain(lambda: norse.LIFCell(p=parameters("super")), norse.SequentialState)
    for network in (plain(lambda: leaky(spike_grad=straight)), super_spike):
        looped = Looped(network, carry=network is super_spike)
        with pytest.raises(ValueError, match=r"the surrogate of network\.\d+, a Le?.*, has no width"):
            calibrate(looped, [digits()], loss)
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in looped.modules())
    lif = neuron.LIFNode()
    shared = spikingjelly("m", lambda: lif)
    with pytest.raises(ValueError, match="spikes of 1 come back to 1 or to a layer before it"):
        calibrate(shared, [digits()], loss)
