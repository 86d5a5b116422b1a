"""Every neuron: its kernels and its loop against its own step under autograd, and against others' neurons."""

import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import snntorch
import torch
from hypothesis import given
from hypothesis import strategies as st
from snntorch import surrogate as snn_surrogate
from spikingjelly.activation_based import neuron as sj
from spikingjelly.activation_based import surrogate as sj_surrogate
from torch import Tensor, nn

from shortcut_snn import calibrate, components, nets
from shortcut_snn.neurons import (
    CLIF,
    ILIF,
    KLIF,
    LIF,
    PSN,
    RLIF,
    ATan,
    Neuron,
    Rectangle,
    Synaptic,
    sequence,
    straight_through,
    unrolled_spikes,
    use_backend,
)

from .every_neuron import NEURONS, ByChannel, currents


def by_autograd(neuron: Neuron, current: Tensor, initial: Tensor) -> tuple[Tensor, Tensor]:
    """The step as it is written, one after the other."""
    return sequence.as_written(neuron.step, len(neuron.states), neuron.detach_membrane, current, initial)


def results(neuron: Neuron, written: bool, current: Tensor, initial: Tensor, weights: tuple[Tensor, Tensor]) -> list:
    """Spikes, final states and gradients, of the neuron or of its step under autograd."""
    inputs = [current.detach().requires_grad_(), initial.detach().requires_grad_()]
    spikes, final = (by_autograd if written else sequence.stream)(neuron, *inputs)
    loss = (spikes * weights[0].to(spikes)).sum() + (final * weights[1].to(spikes)).sum()
    return [spikes.detach(), final.detach(), *torch.autograd.grad(loss, [*inputs, *neuron.parameters()])]


@pytest.mark.parametrize("name", NEURONS)
@given(seed=st.integers(0, 2**31), steps=st.integers(1, 5), detach=st.booleans())
def test_the_derived_gradient_is_autograds(name: str, seed: int, steps: int, detach: bool) -> None:
    neuron = NEURONS[name]().double()
    neuron.detach_membrane = detach
    states = len(neuron.states)
    current = currents(steps, 2, 5, 3, seed=seed).double()
    initial = (0.4 * currents(2, states, 5, 3, seed=seed + 1)).squeeze(1).double()
    weights = current.roll(1, -1), initial.roll(1, -1)
    if detach:
        # What a stream goes on from is a number then.
        inputs = [current.clone().requires_grad_() for _ in range(2)]
        outs = [run(neuron, x, initial)[0] for run, x in zip((sequence.stream, by_autograd), inputs, strict=True)]
        got, want = (
            [out, *torch.autograd.grad((out * weights[0]).sum(), x)] for out, x in zip(outs, inputs, strict=True)
        )
    else:
        got, want = (results(neuron, written, current, initial, weights) for written in (False, True))
    assert torch.equal(got[0], want[0])
    for one, two in zip(got, want, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["clif", "rlif"])
def test_a_stream_in_pieces_is_the_whole(name: str) -> None:
    neuron, current = NEURONS[name](), currents(6, 2, 5, 3)
    for backend in ("numba", "eager"):
        with use_backend(backend), torch.no_grad():
            whole, final = neuron.stream(current)
            first, state = neuron.stream(current[:2])
            second, last = neuron.stream(current[2:], state)
        assert state.shape == (2, 2, 5, 3)
        assert torch.equal(torch.cat([first, second]), whole)
        assert torch.equal(last, final)


PEERS = {
    "clif": (lambda: CLIF(surrogate=Rectangle()), lambda: sj.ComplementaryLIFNode(2.0)),
    "klif": (
        lambda: KLIF(surrogate=ATan()),
        lambda: sj.KLIFNode(tau=2.0, decay_input=False, surrogate_function=sj_surrogate.ATan()),
    ),
    "ilif": (ILIF, sj.ILIFNode),
}


@pytest.mark.parametrize("name", PEERS)
def test_equals_spikingjellys(name: str) -> None:
    ours, theirs = (make() for make in PEERS[name])
    current, weight = 0.5 + currents(5, 3, 7).double(), currents(5, 3, 7, seed=2).double()
    first, second = current.clone().requires_grad_(), current.clone().requires_grad_()
    ours, theirs = ours.double(), theirs.double()
    spikes, expected = ours(first), torch.stack([theirs(step) for step in second])
    assert torch.equal(spikes, expected)
    assert spikes.max() == (2 if name == "ilif" else 1) or name == "ilif"
    (spikes * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(first.grad, second.grad, rtol=1e-9, atol=1e-9)
    for one, two in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad, rtol=1e-9, atol=1e-9)


def test_psn_equals_spikingjellys() -> None:
    theirs, ours = sj.PSN(4, sj_surrogate.ATan()), PSN(4)
    ours.load_state_dict(theirs.state_dict())
    current, weight = 2 * currents(4, 3, 7) + 2, currents(4, 3, 7, seed=2)
    grads = []
    for each in (ours, theirs):
        spikes = each(current.clone())
        (spikes * weight).sum().backward()
        grads.append([spikes.detach(), each.weight.grad, each.bias.grad])
    for one, two in zip(*grads, strict=True):
        torch.testing.assert_close(one, two)
    with pytest.raises(ValueError, match="take 4 time steps, got 3: set time_steps"):
        ours(current[:3])


def test_synaptic_and_recurrent_equal_snntorchs() -> None:
    # Small enough that no potential is above the threshold after a reset too, where snnTorch resets twice.
    noise, weight = currents(8, 3, 7), currents(8, 3, 7, seed=2)
    given = {"synaptic": (0.2 + 0.3 * noise).clamp(max=0.35), "recurrent": (0.6 + 0.6 * noise).clamp(max=1.2)}
    slope = snn_surrogate.atan(alpha=2.0)
    theirs = {
        "synaptic": snntorch.Synaptic(alpha=0.6, beta=0.8, spike_grad=slope, reset_delay=False),
        "recurrent": snntorch.RLeaky(beta=0.5, V=-0.5, all_to_all=False, spike_grad=slope, reset_delay=False),
    }
    ours = {
        "synaptic": Synaptic(0.8, 0.6, reset="soft", surrogate=ATan()),
        "recurrent": RLIF(0.5, -0.5, reset="soft", surrogate=ATan()),
    }
    for name, their in theirs.items():
        first, second = given[name].clone().requires_grad_(), given[name].clone().requires_grad_()
        spikes, state = ours[name](first), None
        expected = []
        for step in second:
            spike, *state = their(step, *state) if state else their(step)
            # It takes its spikes back as a state.
            state = [spike, *state] if name == "recurrent" else state
            expected.append(spike)
        assert torch.equal(spikes, torch.stack(expected)), name
        assert 0.02 < spikes.mean() < 0.5
        (spikes * weight).sum().backward()
        (torch.stack(expected) * weight).sum().backward()
        torch.testing.assert_close(first.grad, second.grad, rtol=1e-4, atol=1e-5)


def test_the_spikes_of_counts_sum_to_what_the_counts_give() -> None:
    counts, linear = ILIF()(2 * currents(3, 2, 5)), nn.Linear(5, 4, bias=False)
    spikes = unrolled_spikes(counts, 4)
    assert set(spikes.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(linear(spikes).unflatten(0, (3, 4)).sum(1), linear(counts))


@pytest.mark.parametrize("option", [{"surrogate": "triangle"}, {"reset": "hard"}])
def test_ilif_refuses_what_would_have_no_effect(option: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=f"neuron 'ilif' has no entry '{next(iter(option))}'"):
        components.read(components.neuron, {"kind": "ilif"} | option, "neuron")


def test_ilif_has_no_surrogate_to_calibrate() -> None:
    batch = torch.rand(2, 3, 16, 16), torch.arange(2)
    with pytest.raises(ValueError, match="has no width"):
        calibrate(nets.spiking_resnet18(4, 1, width=4, make_neuron=ILIF), [batch])


def test_ilif_may_be_given_another_largest_number() -> None:
    neuron, current = ILIF(most=1), torch.full((1, 1, 1), 3.0, requires_grad=True)
    neuron.most = 4
    neuron(current).sum().backward()
    assert neuron(current).item() == 3
    assert torch.equal(current.grad, torch.ones(1, 1, 1))


class Branching(LIF):
    """What it does depends on values."""

    def step(self, current: Tensor, membrane: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        return super().step(current, 0.5 * membrane if membrane.sum() > 0 else membrane)


class Summing(LIF):
    """A neuron that knows of all others."""

    def step(self, current: Tensor, membrane: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        return super().step(current - membrane.mean(), membrane)


@pytest.mark.parametrize(("kind", "said"), [(Branching, "depends on values"), (Summing, "there is no kernel for mean")])
def test_what_cannot_be_traced_runs_as_written_and_says_so_once(kind: type[LIF], said: str) -> None:
    current = currents(4, 2, 5).requires_grad_()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            spikes = kind(surrogate=ATan())(current)
    assert [said in str(each.message) for each in caught] == [True]
    assert str(caught[0].message).startswith(f"{kind.__name__} runs step by step in plain PyTorch")
    (gradient,) = torch.autograd.grad(spikes.sum(), current)
    assert gradient.abs().sum() > 0


class _Own(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v):
        ctx.save_for_backward(v)
        return (v > 0).to(v.dtype)

    @staticmethod
    def backward(ctx, grad):
        (v,) = ctx.saved_tensors
        return grad / (1 + 10 * v.abs()) ** 2


class FiresByFunction(LIF):
    """A surrogate gradient as many write it."""

    def fire(self, v: Tensor) -> Tensor:
        return _Own.apply(v)


class TiresUnseen(LIF):
    """No gradient reaches its fatigue."""

    states = ("membrane", "fatigue")

    def step(self, current: Tensor, membrane: Tensor, fatigue: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        membrane = self.decay * membrane + current
        spike = self.fire(membrane - self.threshold - fatigue)
        with torch.no_grad():
            fatigue = 0.9 * fatigue + spike
        return spike, self.after(membrane, spike), fatigue


class Whole(LIF):
    """A count by way of an integer."""

    binary = False

    def step(self, current: Tensor, membrane: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        membrane = self.decay * membrane + current
        return straight_through(membrane.to(torch.int32).to(membrane.dtype), membrane, torch.ones_like), membrane


class Tenths(LIF):
    """A rounding to one place."""

    binary = False

    def step(self, current: Tensor, membrane: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        membrane = self.decay * membrane + current
        return straight_through(torch.round(membrane, decimals=1), membrane, torch.ones_like), membrane


@pytest.mark.parametrize("kind", [FiresByFunction, TiresUnseen, Whole, Tenths])
def test_what_a_program_would_lose_runs_as_written(kind: type[LIF]) -> None:
    neuron, current = kind(surrogate=ATan()), 2 * currents(4, 2, 5)
    found = []
    for stream in (by_autograd, sequence.stream):
        x = current.clone().requires_grad_()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            spikes, _ = stream(neuron, x, torch.zeros(2, 2, 5) if kind is TiresUnseen else torch.zeros(2, 5))
        found.append((spikes, *torch.autograd.grad(spikes.sum(), x)))
    assert found[0][1].any()
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_nothing_passes_a_rectified_zero_as_in_spikingjelly() -> None:
    theirs = sj.KLIFNode(tau=2.0, decay_input=False, v_reset=0.0, surrogate_function=sj_surrogate.ATan(), step_mode="m")
    for neuron in (KLIF(surrogate=ATan()), theirs):
        x = torch.zeros(3, 1, 1, requires_grad=True)
        neuron(x).sum().backward()
        assert not x.grad.any()


def test_what_a_neurons_parts_and_lists_hold_may_be_changed_in_place() -> None:
    class Gated(LIF):
        def __init__(self) -> None:
            super().__init__()
            self.gate, self.levels = nn.Identity(), [1.0]
            self.gate.gain = 1.0

        def step(self, current: Tensor, membrane: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
            return super().step(current * self.gate.gain * self.levels[0], membrane)

    neuron, current = Gated(), torch.full((1, 1, 1), 1.5)
    assert neuron(current).item() == 1
    neuron.gate.gain = 0.0
    assert neuron(current).item() == 0
    neuron.gate.gain = 1.0
    assert neuron(current).item() == 1
    neuron.levels[0] = 0.0
    assert neuron(current).item() == 0


def test_a_network_from_another_process_has_its_own_parameters(tmp_path: Path) -> None:
    code = """
import sys, torch
from shortcut_snn.neurons import LIF
neurons = [LIF() for _ in range(5)]
if sys.argv[2] == "load":
    neurons = torch.load(sys.argv[1], weights_only=False)
for neuron in neurons:
    neuron.threshold = 1.0 if sys.argv[2] == "save" else 2.0
current = torch.full((1, 1, 1), 1.5)
print(*(int(neuron(current)) for neuron in neurons))
torch.save(neurons, sys.argv[1])
"""
    for what, expected in (("save", "1 1 1 1 1"), ("load", "0 0 0 0 0")):
        run = subprocess.run(
            [sys.executable, "-c", code, tmp_path / "neurons.pt", what], check=True, capture_output=True, text=True
        )
        assert run.stdout.strip() == expected


def test_a_change_of_a_neuron_or_of_its_surrogate_is_seen() -> None:
    class Loose:
        def __init__(self, height: float) -> None:
            self.height = height

        def __call__(self, v: Tensor) -> Tensor:
            return torch.ones_like(v) * self.height

    neuron, current = LIF(surrogate=Loose(1.0)), currents(1, 2, 5).requires_grad_()
    for height in (1.0, 3.0):
        neuron.surrogate.height = height
        (gradient,) = torch.autograd.grad(neuron(current).sum(), current)
        assert gradient.unique().tolist() == [height]
    neuron.threshold = 50.0
    assert neuron(current).sum() == 0


def test_neurons_share_a_program_only_where_they_are_alike() -> None:
    current, factor = currents(3, 2, 4), 1.0

    class Scaled(LIF):
        def step(self, current: Tensor, membrane: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
            return super().step(factor * current, membrane)

    first = sequence.traced(LIF(0.5))
    assert sequence.traced(LIF(0.5)) is first
    for other in (LIF(0.25), LIF(0.5, threshold=1), LIF(0.5, surrogate=Rectangle(2.0)), LIF(0.5, reset="soft")):
        assert sequence.traced(other) is not first
        membrane, expected = torch.zeros(2, 4), []
        for x in current:
            spikes, membrane = other.step(x, membrane)
            expected.append(spikes)
        assert torch.equal(other(current), torch.stack(expected))
    before = Scaled(0.5)(current)
    factor = 0.0
    assert before.sum() > 0
    assert Scaled(0.5)(current).sum() == 0


def test_a_surrogate_that_changes_at_every_step_fills_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequence, "_MOST_PROGRAMS", 10)
    monkeypatch.setattr(sequence, "_PROGRAMS", {})
    neuron = LIF(0.5)
    for step in range(1, 35):
        neuron.surrogate = Rectangle(1.0 + step)
        found = sequence.traced(neuron)
        assert found is not None
        assert (1.0 + step) / 2 in found.numbers
        assert len(sequence._PROGRAMS) <= 10


@pytest.mark.parametrize("shape", [(3,), (2, 2)])
def test_a_parameter_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    class Wide(LIF):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.ones(shape))

        def step(self, current: Tensor, membrane: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
            return super().step(self.w * current, membrane)

    with pytest.raises(ValueError, match=r"of Wide has shape .* per_channel\(parameter, current\)"):
        Wide()(currents(2, 2, 3))


def test_channels_that_are_not_there_are_refused() -> None:
    with pytest.raises(ValueError, match=r"ByChannel has a parameter of shape \(5,\) for each channel"):
        ByChannel(5)(currents(2, 2, 4, 3))


def test_any_value_with_any_slope() -> None:
    x = torch.tensor([0.4, 1.6], requires_grad=True)
    y = straight_through(x.round(), x, lambda v: 2 * v)
    assert y.tolist() == [0.0, 2.0]
    y.sum().backward()
    assert x.grad.tolist() == pytest.approx([0.8, 3.2])
