"""Traced steps against the step itself under autograd: derived gradients, what is traced again, and what cannot be."""

import pickle
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from shortcut_snn.neurons import LIF, ATan, Neuron, Rectangle, sequence, straight_through, traced
from shortcut_snn.neurons.compiler import cache

from .every_neuron import NEURONS, ByChannel, currents


def as_written(neuron: Neuron, current: Tensor, initial: Tensor) -> tuple[Tensor, Tensor]:
    return sequence.run_as_written(neuron.step, len(neuron.states), neuron.detach_membrane, current, initial)


@pytest.mark.parametrize("name", NEURONS)
@given(seed=st.integers(0, 2**31), steps=st.integers(1, 5), detach=st.booleans())
def test_derived_gradients_equal_autograd(name: str, seed: int, steps: int, detach: bool) -> None:
    neuron = NEURONS[name]().double()
    neuron.detach_membrane = detach
    current = currents(steps, 2, 5, 3, seed=seed).double().requires_grad_()
    initial = (0.4 * currents(2, len(neuron.states), 5, 3, seed=seed + 1)).squeeze(1).double().requires_grad_()
    weights = current.detach().roll(1, -1), initial.detach().roll(1, -1)
    results = []
    for run in (sequence.stream, as_written):
        spikes, final = run(neuron, current, initial)
        loss = (spikes * weights[0]).sum()
        inputs = [current]
        if not detach:
            # With a detached membrane the initial state and the final one are constants.
            loss, inputs = loss + (final * weights[1]).sum(), [current, initial, *neuron.parameters()]
        results.append([spikes.detach(), final.detach(), *torch.autograd.grad(loss, inputs)])
    assert torch.equal(results[0][0], results[1][0])
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)


class Branching(LIF):
    """Its control flow depends on values."""

    def step(self, current: Tensor, membrane: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        return super().step(current, 0.5 * membrane if membrane.sum() > 0 else membrane)


class Summing(LIF):
    """A neuron that depends on all others."""

    def step(self, current: Tensor, membrane: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        return super().step(current - membrane.mean(), membrane)


@pytest.mark.parametrize(("kind", "reason"), [(Branching, "depends on values"), (Summing, "mean")])
def test_a_step_that_cannot_be_traced_runs_and_warns_once(kind: type[LIF], reason: str) -> None:
    current = currents(4, 2, 5).requires_grad_()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            spikes = kind(surrogate=ATan())(current)
    assert [kind.__name__ in str(warning.message) and reason in str(warning.message) for warning in caught] == [True]
    (gradient,) = torch.autograd.grad(spikes.sum(), current)
    assert gradient.abs().sum() > 0


class _OwnFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v):
        ctx.save_for_backward(v)
        return (v > 0).to(v.dtype)

    @staticmethod
    def backward(ctx, grad):
        (v,) = ctx.saved_tensors
        return grad / (1 + 10 * v.abs()) ** 2


class FiresByFunction(LIF):
    """A surrogate gradient as an autograd.Function."""

    def fire(self, v: Tensor) -> Tensor:
        return _OwnFunction.apply(v)


class WithoutGradient(LIF):
    """No gradient reaches its fatigue."""

    states = ("membrane", "fatigue")

    def step(self, current: Tensor, membrane: Tensor, fatigue: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        membrane = self.decay * membrane + current
        spike = self.fire(membrane - self.threshold - fatigue)
        with torch.no_grad():
            fatigue = 0.9 * fatigue + spike
        return spike, self.after(membrane, spike), fatigue


class Truncating(LIF):
    """A count by way of an integer dtype."""

    binary = False

    def step(self, current: Tensor, membrane: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        membrane = self.decay * membrane + current
        return straight_through(membrane.to(torch.int32).to(membrane.dtype), membrane, torch.ones_like), membrane


class Tenths(LIF):
    """An operation with an option that no kernel has."""

    binary = False

    def step(self, current: Tensor, membrane: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        membrane = self.decay * membrane + current
        return straight_through(torch.round(membrane, decimals=1), membrane, torch.ones_like), membrane


@pytest.mark.parametrize("kind", [FiresByFunction, WithoutGradient, Truncating, Tenths])
@pytest.mark.filterwarnings("ignore:.*runs step by step")
def test_a_step_that_a_program_would_change_runs_as_written(kind: type[LIF]) -> None:
    neuron, current = kind(surrogate=ATan()), 2 * currents(4, 2, 5)
    initial = torch.zeros(2, 2, 5) if kind is WithoutGradient else torch.zeros(2, 5)
    results = []
    for run in (as_written, sequence.stream):
        x = current.clone().requires_grad_()
        spikes, _ = run(neuron, x, initial)
        results.append((spikes, *torch.autograd.grad(spikes.sum(), x)))
    assert results[0][1].any()
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def test_an_assigned_attribute_traces_the_step_again() -> None:
    neuron, current = LIF(), currents(1, 2, 5).requires_grad_()
    for width in (4.0, 8.0):
        neuron.surrogate = Rectangle(width)
        (gradient,) = torch.autograd.grad(neuron(current).sum(), current)
        assert gradient.max() == 1 / width
    neuron.threshold = 50.0
    assert neuron(current).sum() == 0


def test_neurons_share_a_program_only_with_equal_attributes() -> None:
    current = currents(3, 2, 4)
    first = traced(LIF(0.5))
    assert traced(LIF(0.5)) is first
    for other in (LIF(0.25), LIF(0.5, threshold=1), LIF(0.5, surrogate=Rectangle(2.0)), LIF(0.5, reset="soft")):
        assert traced(other) is not first
        assert torch.equal(other(current), as_written(other, current, torch.zeros(2, 4))[0])


def test_a_surrogate_that_changes_at_every_step_fills_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_MAX_SHARED", 10)
    monkeypatch.setattr(cache, "_SHARED", {})
    neuron = LIF(0.5)
    for step in range(1, 35):
        neuron.surrogate = Rectangle(1.0 + step)
        assert (1.0 + step) / 2 in traced(neuron).constants
        assert len(cache._SHARED) <= 10


def test_a_pickled_neuron_takes_its_attributes_but_no_program_along() -> None:
    neuron, current = LIF(), torch.full((1, 1, 1), 1.5)
    assert neuron(current).item() == 1
    copy = pickle.loads(pickle.dumps(neuron))
    assert not cache.was_traced(copy)
    copy.threshold = 2.0
    assert copy(current).item() == 0
    assert neuron(current).item() == 1


class Wide(LIF):
    """A parameter that is neither one number nor one for each channel."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(shape))

    def step(self, current: Tensor, membrane: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        return super().step(self.w * current, membrane)


@pytest.mark.parametrize("neuron", [Wide((3,)), Wide((2, 2)), ByChannel(5)], ids=["row", "matrix", "channels"])
def test_a_parameter_of_another_shape_is_refused(neuron: Neuron) -> None:
    with pytest.raises(ValueError, match=f"of {type(neuron).__name__} has shape"):
        neuron(currents(2, 2, 4, 3))
