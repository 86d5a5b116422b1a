"""The neurons as modules, side by side with SpikingJelly's, snnTorch's and norse's."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from norse.torch.functional.iaf import IAFFeedForwardState, iaf_feed_forward_step
from snntorch import Leaky
from spikingjelly.activation_based import neuron as spikingjelly
from spikingjelly.activation_based import surrogate as spikingjelly_surrogate
from torch import Tensor, nn

from shortcut_snn.neurons import IF, LIF, PLIF, ATan, Neuron, Rectangle, Sigmoid

RESETS = ["hard", "soft"]
seeds = st.integers(0, 2**31)
thresholds = st.floats(0.2, 3.0)


def random_current(seed: int, dtype: torch.dtype = torch.float32, steps: int = 8) -> Tensor:
    return 2 * torch.randn(steps, 4, 16, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def pair(kind: str, decay: float, reset: str, threshold: float = 1.0, detach: bool = False, surrogate: str = "ATan"):
    """The same neuron from this library and from SpikingJelly, whose tau is 1 / (1 - ours)."""
    ours = {
        "threshold": threshold,
        "reset": reset,
        "detach_reset": detach,
        "surrogate": {"ATan": ATan(2.0), "Sigmoid": Sigmoid(4.0)}[surrogate],
    }
    theirs = {
        "v_threshold": threshold,
        "v_reset": 0.0 if reset == "hard" else None,
        "detach_reset": detach,
        "surrogate_function": getattr(spikingjelly_surrogate, surrogate)({"ATan": 2.0, "Sigmoid": 4.0}[surrogate]),
        "step_mode": "m",
    }
    if kind == "IF":
        return IF(**ours), spikingjelly.IFNode(**theirs)
    their_tau = 1 / (1 - decay)
    if kind == "LIF":
        return LIF(decay, **ours), spikingjelly.LIFNode(their_tau, decay_input=False, **theirs)
    return PLIF(decay, **ours), spikingjelly.ParametricLIFNode(their_tau, decay_input=False, **theirs)


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize(("kind", "decay"), [("IF", 1.0), ("LIF", 0.5), ("LIF", 0.75), ("PLIF", 0.5)])
@given(seed=seeds, threshold=thresholds)
def test_spikes_and_membrane_are_spikingjellys_bit_for_bit(
    kind: str, decay: float, reset: str, seed: int, threshold: float
) -> None:
    # With these decays both libraries' products are exact, so float32 leaves no room for a difference.
    ours, theirs = pair(kind, decay, reset, threshold)
    current = random_current(seed)
    spikes, membrane = ours.stream(current)
    assert torch.equal(spikes, theirs(current))
    assert torch.equal(membrane, theirs.v)
    assert 0 < spikes.mean() < 1


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("kind", ["LIF", "PLIF"])
@given(seed=seeds, decay=st.floats(0.05, 0.95), threshold=thresholds)
def test_spikes_are_spikingjellys_for_any_decay(
    kind: str, reset: str, seed: int, decay: float, threshold: float
) -> None:
    ours, theirs = pair(kind, decay, reset, threshold)
    current = random_current(seed, torch.float64)
    spikes, membrane = ours.double().stream(current)
    assert torch.equal(spikes, theirs.double()(current))
    torch.testing.assert_close(membrane, theirs.v, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("kind", ["IF", "LIF", "PLIF"])
def test_a_tie_is_silent_here_and_fires_in_spikingjelly(kind: str, reset: str) -> None:
    ours, theirs = pair(kind, 0.5, reset)
    # u_pre: on the threshold at once; below and then on it; just below; just above.
    second = {"IF": 0.5, "LIF": 0.75, "PLIF": 0.75}[kind]
    below, above = (torch.nextafter(torch.tensor(1.0), torch.tensor(limit)) for limit in (0.0, 2.0))
    current = torch.tensor([[1.0, 0.5, below, above], [0.0, second, 0.0, 0.0]]).unsqueeze(1)
    assert ours(current).squeeze(1).tolist() == [[0, 0, 0, 1], [0, 0, 0, 0]]
    assert theirs(current).squeeze(1).tolist() == [[1, 0, 0, 1], [0, 1, 0, 0]]


@pytest.mark.parametrize("reset", RESETS)
@given(seed=seeds)
def test_away_from_ties_coarse_currents_agree_and_at_ties_they_do_not(reset: str, seed: int) -> None:
    # Currents in quarters land on the threshold often, and are exact in float32 for a decay of 1.
    ours, theirs = pair("IF", 1.0, reset)
    generator = torch.Generator().manual_seed(seed)
    current = torch.randint(-4, 7, (6, 4, 64), generator=generator) / 4
    shifted = current.clone()
    shifted[0] += 1 / 64
    spikes, expected = ours(current), theirs(current)
    theirs.reset()
    u, tie = torch.zeros(4, 64), torch.zeros(4, 64, dtype=torch.bool)
    for t in range(6):
        u = u + current[t]
        tie |= u == 1
        fired = u > 1
        u = torch.where(fired, torch.zeros(()) if reset == "hard" else u - 1, u)
    assert tie.any()
    assert torch.equal(spikes[:, ~tie], expected[:, ~tie])
    # A neuron that met a tie has fired there in SpikingJelly and not here.
    assert (spikes != expected).any(0)[tie].all()
    if reset == "soft":
        # Shifted off the grid for good, so no neuron meets a tie.
        assert torch.equal(ours(shifted), theirs(shifted))


# snnTorch's Leaky subtracts the threshold a step late, after the decay, so a soft reset that leaks
# (beta < 1) is another neuron than ours and is left out; without a leak (beta = 1) the two are the same.
@pytest.mark.parametrize(("reset", "mechanism", "beta"), [("hard", "zero", 0.5), ("soft", "subtract", 1.0)])
@given(seed=seeds)
def test_spikes_are_snntorchs_ties_included(reset: str, mechanism: str, beta: float, seed: int) -> None:
    theirs = Leaky(beta=beta, threshold=1.0, reset_mechanism=mechanism)
    generator = torch.Generator().manual_seed(seed)
    current = torch.randint(-8, 24, (6, 4, 16), generator=generator) / 8
    current[0, 0] = 1.0
    membrane, expected = torch.zeros(4, 16), []
    for step in current:
        spikes, membrane = theirs(step, membrane)
        expected.append(spikes)
    assert torch.equal(LIF(beta, reset=reset)(current), torch.stack(expected))


@given(seed=seeds)
def test_spikes_are_norses_ties_included(seed: int) -> None:
    current = torch.randint(-8, 24, (6, 4, 16), generator=torch.Generator().manual_seed(seed)) / 8
    current[0, 0] = 1.0
    state, expected = IAFFeedForwardState(v=torch.zeros(4, 16)), []
    for step in current:
        spikes, state = iaf_feed_forward_step(step, state)
        expected.append(spikes)
    assert torch.equal(IF()(current), torch.stack(expected))


@pytest.mark.parametrize("detach", [False, True], ids=["attached", "detached"])
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("surrogate", ["ATan", "Sigmoid"])
@pytest.mark.parametrize(("kind", "decay"), [("IF", 1.0), ("LIF", 0.5), ("LIF", 0.8), ("PLIF", 0.5), ("PLIF", 0.8)])
def test_gradients_are_spikingjellys(kind: str, decay: float, surrogate: str, reset: str, detach: bool) -> None:
    ours, theirs = pair(kind, decay, reset, detach=detach, surrogate=surrogate)
    weight = torch.randn(8, 4, 16) / 16
    gradients = []
    for module in (ours, theirs):
        current = random_current(1).requires_grad_()
        (module(current) * weight).sum().backward()
        gradients.append(current.grad)
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-5)
    if kind == "PLIF":
        # Ours is sigmoid(w) = decay, theirs sigmoid(w) = 1 / tau = 1 - ours: the sign turns.
        assert abs(ours.w.grad) > 1e-3
        torch.testing.assert_close(ours.w.grad, -theirs.w.grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("make", [IF, LIF, PLIF])
def test_a_call_starts_from_zero_and_keeps_nothing(make: type[Neuron]) -> None:
    neuron = make()
    current = random_current(2)
    assert torch.equal(neuron(current), neuron(current))
    assert not list(neuron.buffers())


def test_a_stream_goes_on_where_it_stopped() -> None:
    neuron, current = LIF(0.9, reset="soft"), random_current(3)
    first, membrane = neuron.stream(current[:3])
    second, _ = neuron.stream(current[3:], membrane)
    assert torch.equal(torch.cat([first, second]), neuron(current))
    assert not torch.equal(second, neuron(current[3:]))


def test_if_is_lif_that_does_not_leak_and_plif_starts_as_lif() -> None:
    current = random_current(4)
    assert torch.equal(IF()(current), LIF(1.0)(current))
    assert not torch.equal(IF()(current), LIF()(current))
    assert torch.equal(PLIF(0.5)(current), LIF(0.5)(current))
    assert PLIF(0.3).decay.item() == pytest.approx(0.3)


def test_plif_learns_its_decay() -> None:
    target = LIF(0.9)(random_current(5)).mean(0)
    neuron = PLIF(0.5, surrogate=ATan())
    assert list(neuron.state_dict()) == ["w"]
    optimizer = torch.optim.Adam(neuron.parameters(), lr=0.05)
    losses = []
    for _ in range(40):
        loss = (neuron(random_current(5)).mean(0) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert neuron.decay.item() > 0.7
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize("make", [IF, LIF, PLIF])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 0.0}, "threshold.*0.0"),
        ({"threshold": float("nan")}, "threshold.*nan"),
        ({"reset": "none"}, "reset must be one of hard, soft, got 'none'"),
    ],
)
def test_parameters_that_make_no_sense_are_refused_when_built(make: type[Neuron], options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)


@pytest.mark.parametrize(
    ("make", "decay"),
    [(LIF, -0.01), (LIF, 1.01), (LIF, float("nan")), (PLIF, 0.0), (PLIF, 1.0), (PLIF, float("nan"))],
)
def test_a_decay_out_of_range_is_refused_when_built(make: type[Neuron], decay: float) -> None:
    with pytest.raises(ValueError, match=f"decay.*got {decay}"):
        make(decay)


def test_a_threshold_that_would_never_be_learned_is_refused() -> None:
    with pytest.raises(TypeError, match="threshold must be a number"):
        LIF(threshold=nn.Parameter(torch.tensor(1.0)))


def test_the_printed_form_names_the_parameters() -> None:
    assert repr(LIF(0.25, threshold=2.0, surrogate=Rectangle(4.0), reset="soft", detach_reset=True)) == (
        "LIF(decay=0.25, threshold=2, surrogate=Rectangle(width=4.0), reset=soft, detach_reset)"
    )
    assert "decay=0.3, threshold=1" in repr(nn.Sequential(PLIF(0.3)))
