"""Neurons side by side with SpikingJelly's, snnTorch's and Norse's."""

import norse.torch as norse
import pytest
import snntorch
import torch
from norse.torch.functional.iaf import IAFFeedForwardState, iaf_feed_forward_step
from snntorch import surrogate as snn_surrogate
from spikingjelly.activation_based import neuron as sj
from spikingjelly.activation_based import surrogate as sj_surrogate
from torch import Tensor, nn

from shortcut_snn.neurons import CLIF, IF, ILIF, KLIF, LIF, PLIF, PSN, RLIF, ATan, Rectangle, Synaptic

from .every_neuron import currents

RESETS = ["hard", "soft"]


def random_current(seed: int) -> Tensor:
    return 2 * currents(8, 4, 16, seed=seed)


def pair(kind: str, decay: float, reset: str, detach: bool = False) -> tuple[nn.Module, nn.Module]:
    """The same neuron from this library and from SpikingJelly, whose tau is 1 / (1 - decay)."""
    ours = {"reset": reset, "detach_reset": detach, "surrogate": ATan(2.0)}
    theirs = {
        "v_reset": 0.0 if reset == "hard" else None,
        "detach_reset": detach,
        "surrogate_function": sj_surrogate.ATan(2.0),
        "step_mode": "m",
    }
    if kind == "IF":
        return IF(**ours), sj.IFNode(**theirs)
    tau = 1 / (1 - decay)
    if kind == "LIF":
        return LIF(decay, **ours), sj.LIFNode(tau, decay_input=False, **theirs)
    return PLIF(decay, **ours), sj.ParametricLIFNode(tau, decay_input=False, **theirs)


KINDS = [("IF", 1.0), ("LIF", 0.75), ("PLIF", 0.5)]


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize(("kind", "decay"), KINDS)
def test_spikes_and_membrane_equal_spikingjelly_bit_for_bit(kind: str, decay: float, reset: str) -> None:
    # With these decays both libraries' products are exact, so float32 leaves no room for a difference.
    ours, theirs = pair(kind, decay, reset)
    current = random_current(1)
    spikes, membrane = ours.stream(current)
    assert torch.equal(spikes, theirs(current))
    assert torch.equal(membrane, theirs.v)
    assert 0 < spikes.mean() < 1


def test_a_potential_at_the_threshold_fires_in_spikingjelly_only() -> None:
    ours, theirs = pair("LIF", 0.5, "hard")
    # u_pre: on the threshold at once; below and then on it; just below; just above.
    below, above = (torch.nextafter(torch.tensor(1.0), torch.tensor(limit)) for limit in (0.0, 2.0))
    current = torch.tensor([[1.0, 0.5, below, above], [0.0, 0.75, 0.0, 0.0]]).unsqueeze(1)
    assert ours(current).squeeze(1).tolist() == [[0, 0, 0, 1], [0, 0, 0, 0]]
    assert theirs(current).squeeze(1).tolist() == [[1, 0, 0, 1], [0, 1, 0, 0]]


# snnTorch's Leaky subtracts the threshold a step late, after the decay, so a soft reset that leaks
# (beta < 1) is another neuron and is left out; without a leak (beta = 1) the two are the same.
@pytest.mark.parametrize(("reset", "mechanism", "beta"), [("hard", "zero", 0.5), ("soft", "subtract", 1.0)])
def test_spikes_equal_snntorch_ties_included(reset: str, mechanism: str, beta: float) -> None:
    theirs = snntorch.Leaky(beta=beta, threshold=1.0, reset_mechanism=mechanism)
    current = torch.randint(-8, 24, (6, 40, 16)) / 8
    current[0, 0] = 1.0
    membrane, expected = torch.zeros(40, 16), []
    for step in current:
        spikes, membrane = theirs(step, membrane)
        expected.append(spikes)
    assert torch.equal(LIF(beta, reset=reset)(current), torch.stack(expected))


def test_spikes_equal_norse_ties_included() -> None:
    current = torch.randint(-8, 24, (6, 40, 16)) / 8
    current[0, 0] = 1.0
    state, expected = IAFFeedForwardState(v=torch.zeros(40, 16)), []
    for step in current:
        spikes, state = iaf_feed_forward_step(step, state)
        expected.append(spikes)
    assert torch.equal(IF()(current), torch.stack(expected))


def test_a_scaled_synaptic_equals_norse_lif_cell() -> None:
    # Norse multiplies the current by dt * tau_mem_inv = 1/2, and keeps 1 - dt * tau_syn_inv = 1/4 of the synaptic one.
    current, state, expected = torch.randint(-8, 24, (6, 40, 16)) / 4, None, []
    parameters = norse.LIFParameters(tau_syn_inv=torch.tensor(768.0), tau_mem_inv=torch.tensor(512.0))
    cell = norse.LIFCell(parameters, dt=2**-10)
    for step in current:
        spikes, state = cell(step, state)
        expected.append(spikes)
    assert torch.equal(Synaptic(decay=0.5, synapse=0.25)(current / 2), torch.stack(expected))


@pytest.mark.parametrize(("reset", "detach"), [("hard", False), ("hard", True), ("soft", False)])
@pytest.mark.parametrize(("kind", "decay"), KINDS)
def test_gradients_equal_spikingjelly(kind: str, decay: float, reset: str, detach: bool) -> None:
    ours, theirs = pair(kind, decay, reset, detach)
    weight = torch.randn(8, 4, 16) / 16
    gradients = []
    for module in (ours, theirs):
        current = random_current(1).requires_grad_()
        (module(current) * weight).sum().backward()
        gradients.append(current.grad)
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-5)
    if kind == "PLIF":
        # Ours is sigmoid(w) = decay, theirs sigmoid(w) = 1 / tau = 1 - decay: the sign is opposite.
        assert abs(ours.w.grad) > 1e-3
        torch.testing.assert_close(ours.w.grad, -theirs.w.grad, rtol=1e-5, atol=1e-5)


PEERS = {
    "clif": (lambda: CLIF(surrogate=Rectangle()), lambda: sj.ComplementaryLIFNode(2.0)),
    "klif": (
        lambda: KLIF(surrogate=ATan()),
        lambda: sj.KLIFNode(tau=2.0, decay_input=False, surrogate_function=sj_surrogate.ATan()),
    ),
    "ilif": (ILIF, sj.ILIFNode),
}


@pytest.mark.parametrize("name", PEERS)
def test_variants_equal_spikingjelly(name: str) -> None:
    ours, theirs = (make().double() for make in PEERS[name])
    current, weight = 0.5 + currents(5, 3, 7).double(), currents(5, 3, 7, seed=2).double()
    first, second = current.clone().requires_grad_(), current.clone().requires_grad_()
    spikes, expected = ours(first), torch.stack([theirs(step) for step in second])
    assert spikes.any()
    assert torch.equal(spikes, expected)
    (spikes * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(first.grad, second.grad, rtol=1e-9, atol=1e-9)
    for one, two in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad, rtol=1e-9, atol=1e-9)


def test_no_gradient_passes_a_rectified_zero_as_in_spikingjelly() -> None:
    theirs = sj.KLIFNode(tau=2.0, decay_input=False, v_reset=0.0, surrogate_function=sj_surrogate.ATan(), step_mode="m")
    for neuron in (KLIF(surrogate=ATan()), theirs):
        x = torch.zeros(3, 1, 1, requires_grad=True)
        neuron(x).sum().backward()
        assert not x.grad.any()


def test_psn_equals_spikingjelly() -> None:
    theirs, ours = sj.PSN(4, sj_surrogate.ATan()), PSN(4)
    ours.load_state_dict(theirs.state_dict())
    current, weight = 2 * currents(4, 3, 7) + 2, currents(4, 3, 7, seed=2)
    grads = []
    for neuron in (ours, theirs):
        spikes = neuron(current.clone())
        (spikes * weight).sum().backward()
        grads.append([spikes.detach(), neuron.weight.grad, neuron.bias.grad])
    torch.testing.assert_close(*grads)
    with pytest.raises(ValueError, match="time_steps"):
        ours(current[:3])


def test_synaptic_and_recurrent_equal_snntorch() -> None:
    # Small enough that no potential is above the threshold after a reset too, where snnTorch resets twice.
    noise, weight = currents(8, 3, 7), currents(8, 3, 7, seed=2)
    slope = snn_surrogate.atan(alpha=2.0)
    cases = {
        "synaptic": (
            (0.2 + 0.3 * noise).clamp(max=0.35),
            Synaptic(0.8, 0.6, reset="soft", surrogate=ATan()),
            snntorch.Synaptic(alpha=0.6, beta=0.8, spike_grad=slope, reset_delay=False),
        ),
        "recurrent": (
            (0.6 + 0.6 * noise).clamp(max=1.2),
            RLIF(0.5, -0.5, reset="soft", surrogate=ATan()),
            snntorch.RLeaky(beta=0.5, V=-0.5, all_to_all=False, spike_grad=slope, reset_delay=False),
        ),
    }
    for name, (current, ours, theirs) in cases.items():
        first, second = current.clone().requires_grad_(), current.clone().requires_grad_()
        spikes, state, expected = ours(first), None, []
        for step in second:
            spike, *state = theirs(step, *state) if state else theirs(step)
            # RLeaky takes its spikes as a state.
            state = [spike, *state] if name == "recurrent" else state
            expected.append(spike)
        assert torch.equal(spikes, torch.stack(expected)), name
        assert 0.02 < spikes.mean() < 0.5
        (spikes * weight).sum().backward()
        (torch.stack(expected) * weight).sum().backward()
        torch.testing.assert_close(first.grad, second.grad, rtol=1e-4, atol=1e-5)
