"""Traced steps: what is traced again, and what cannot be traced."""

import math
import operator
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from shortcut_snn.neurons import LIF, ATan, Neuron, Rectangle, per_channel, straight_through, use_backend

from .every_neuron import ByChannel, currents, is_active

pytestmark = pytest.mark.usefixtures("kernels")


class Branching(LIF):
    """Its control flow depends on values."""

    def step(self, current: Tensor, membrane: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        return super().step(current, 0.5 * membrane if membrane.sum() > 0 else membrane)


class Summing(LIF):
    """A neuron that depends on the whole layer."""

    def step(self, current: Tensor, membrane: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        return super().step(current - membrane.mean(), membrane)


@pytest.mark.parametrize(("kind", "reason"), [(Branching, "operations depend on values"), (Summing, "mean")])
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


class Tenths(LIF):
    """An operation with an option that no kernel has."""

    binary = False

    def step(self, current: Tensor, membrane: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        membrane = self.decay * membrane + current
        return straight_through(torch.round(membrane, decimals=1), membrane, torch.ones_like), membrane


class Levels(LIF):
    """The sum of two comparisons is their logical or."""

    binary = False

    def step(self, current: Tensor, membrane: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        membrane = self.decay * membrane + current
        levels = (membrane > 0.5) + (membrane > 1)
        return self.fire(membrane - self.threshold) + levels.to(membrane.dtype), membrane


@pytest.mark.parametrize("kind", [FiresByFunction, WithoutGradient, Tenths, Levels])
@pytest.mark.filterwarnings("ignore:.*runs step by step")
def test_a_step_that_a_program_would_change_runs_as_written(kind: type[LIF]) -> None:
    neuron, current = kind(surrogate=ATan()), 2 * currents(4, 2, 5)
    initial = torch.zeros(2, 2, 5) if kind is WithoutGradient else torch.zeros(2, 5)
    results = []
    for backend in ("eager", "numba"):
        x = current.clone().requires_grad_()
        with use_backend(backend):
            spikes, _ = neuron.stream(x, initial)
        results.append((spikes, *torch.autograd.grad(spikes.sum(), x)))
    assert is_active(*results[0])
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


class Bounded(LIF):
    """Its maximum and minimum meet at ties: after a hard reset, where the membrane potential is 0."""

    def step(self, current: Tensor, membrane: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        zero = torch.zeros_like(membrane)
        membrane = torch.maximum(0.5 * membrane, zero) + torch.minimum(0.3 * membrane, zero) + current
        spike = self.fire(membrane - self.threshold)
        return spike, self.after(membrane.clamp(-1.0, 3.0), spike)


class Gated(LIF):
    """Its step compares a parameter alone."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.gate = nn.Parameter(torch.tensor(0.5))

    def step(self, current: Tensor, membrane: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        current = torch.where(
            (self.gate > 0.4) & (current > 0), 2 * current, torch.where(self.gate > 0.7, 0.0, current)
        )
        return super().step(current + torch.relu(self.gate), membrane)


class Selects(LIF):
    """``where`` as a method: the tensor is the value, and the condition its argument."""

    def step(self, current: Tensor, membrane: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        above = (current > 1).where(current > 0.5, current > 0.2) * torch.maximum(current < 3, current > 4)
        return super().step(current + above.to(current.dtype), membrane)


class Rounds(LIF):
    """A straight-through estimator whose slope is a number."""

    binary = False

    def step(self, current: Tensor, membrane: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        membrane = self.decay * membrane + current + torch.zeros_like(membrane).detach()
        return straight_through(membrane.round(), membrane, torch.ones_like), membrane


class Masked(LIF):
    """Products, selections and copies of comparisons are comparisons, so that their sum is a logical or."""

    binary = False

    def __init__(self, combine: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__(surrogate=ATan())
        self.combine = combine

    def step(self, current: Tensor, membrane: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        membrane = self.decay * membrane + current
        low, high = membrane > 0.2, membrane > 1
        levels = self.combine(low, current > -0.5) + high
        return self.fire(membrane - self.threshold) + levels.to(membrane.dtype), membrane


@pytest.mark.parametrize(
    "combine",
    [
        operator.mul,
        torch.maximum,
        torch.minimum,
        lambda low, high: torch.where(high, low, ~low),
        lambda low, high: low.clone(),
        lambda low, high: low.detach(),
        lambda low, high: low.to(torch.bool),
    ],
)
@pytest.mark.filterwarnings("ignore:.*runs step by step")
def test_comparisons_that_are_combined_stay_comparisons(combine: Callable[[Tensor, Tensor], Tensor]) -> None:
    neuron, current = Masked(combine), 2 * currents(4, 2, 5)
    spikes = neuron(current)
    with use_backend("eager"):
        assert torch.equal(neuron(current), spikes)
    assert spikes.max() == 2


@pytest.mark.parametrize("kind", [Bounded, Gated, Selects, Rounds])
def test_ties_and_comparisons_of_parameters_are_as_in_pytorch(kind: type[LIF]) -> None:
    neuron, current, weight = kind(surrogate=ATan()), currents(4, 2, 50), currents(4, 2, 50, seed=2)
    results = []
    for backend in ("numba", "eager"):
        x = current.clone().requires_grad_()
        with use_backend(backend):
            spikes = neuron(x)
        results.append((spikes, *torch.autograd.grad((spikes * weight).sum(), [x, *neuron.parameters()])))
    assert is_active(*results[1])
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-5)


def test_an_assigned_attribute_traces_the_step_again() -> None:
    neuron, current = LIF(), currents(1, 2, 5).requires_grad_()
    for width in (4.0, 8.0):
        neuron.surrogate = Rectangle(width)
        (gradient,) = torch.autograd.grad(neuron(current).sum(), current)
        assert gradient.max() == 1 / width
    neuron.threshold = 50.0
    assert neuron(current).sum() == 0


def test_a_pickled_neuron_takes_its_attributes_but_no_program_along() -> None:
    neuron, current = LIF(), torch.full((1, 1, 1), 1.5)
    assert neuron(current).item() == 1
    copy = pickle.loads(pickle.dumps(neuron))
    assert "_traced_steps" not in vars(copy)
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


class InPlace(Neuron):
    """Changes its first state in place."""

    states = ("sum", "sums")
    binary = False

    def step(self, current: Tensor, total: Tensor, totals: Tensor) -> tuple[Tensor, ...]:
        """Return the sum of the sums."""
        total += current
        totals += total
        return 1.0 * totals, total, totals


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_states_are_changed_one_by_one(dtype: torch.dtype) -> None:
    assert InPlace()(torch.ones(3, 1, 1, dtype=dtype)).flatten().tolist() == [1, 3, 6]


class Logarithm(LIF):
    """Its membrane is not a number where the current is negative."""

    def step(self, current: Tensor, membrane: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        return super().step(torch.log(current), membrane)


def test_a_membrane_that_is_not_a_number_does_not_fire() -> None:
    current = torch.tensor([-1.0, 0.0, 3.0, 9.0]).view(1, 4, 1)
    assert Logarithm()(current).flatten().tolist() == [0, 0, 1, 1]


class Asserts(LIF):
    """Checks what it is given."""

    def step(self, current: Tensor, membrane: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        assert isinstance(current, Tensor)
        return super().step(current, membrane)


def test_an_assertion_about_the_kind_of_the_current_only_stops_the_kernels() -> None:
    current = currents(4, 2, 5)
    with pytest.warns(match="Asserts runs step by step"):
        spikes = Asserts()(current)
    assert torch.equal(spikes, LIF()(current))


class WithinBounds(LIF):
    """A learned decay for each channel that is kept within its bounds."""

    def __init__(self) -> None:
        super().__init__(surrogate=ATan())
        self.d = nn.Parameter(torch.tensor([-0.5, 0.2, 0.7, 1.0, 1.5]))

    def step(self, current: Tensor, membrane: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        membrane = per_channel(torch.relu(self.d).clamp(max=1), current) * membrane + current
        spike = self.fire(membrane - self.threshold)
        return spike, self.after(membrane, spike)


@pytest.mark.filterwarnings("error")
def test_a_parameter_for_each_channel_can_be_clamped() -> None:
    neuron, weight, results = WithinBounds(), currents(4, 3, 5, seed=2), []
    for backend in ("numba", "eager"):
        x = (2 * currents(4, 3, 5)).requires_grad_()
        with use_backend(backend):
            spikes = neuron(x)
        results.append((spikes, *torch.autograd.grad((spikes * weight).sum(), [x, neuron.d])))
    assert is_active(*results[1])
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-5)


class Fading(LIF):
    """Its second state is its spikes, which it changes in place."""

    states = ("membrane", "trace")

    def step(self, current: Tensor, membrane: Tensor, trace: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        trace *= 0.5
        membrane = self.decay * membrane + current - trace
        spike = self.fire(membrane - self.threshold)
        return spike, self.after(membrane, spike), spike


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_spikes_that_are_a_state_stay_as_they_were(dtype: torch.dtype) -> None:
    assert Fading()(torch.full((4, 1, 1), 1.6, dtype=dtype)).flatten().tolist() == [1, 1, 1, 1]


class Greatest(LIF):
    """Returns the greatest current so far, or the least."""

    binary = False

    def __init__(self, choose: Any) -> None:
        super().__init__()
        self.choose = choose

    def step(self, current: Tensor, membrane: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        membrane = self.choose(membrane, current)
        return membrane, membrane


@pytest.mark.parametrize("choose", [torch.maximum, torch.minimum])
def test_a_current_that_is_not_a_number_is_not_hidden(choose: Any) -> None:
    current = torch.tensor([1.0, math.nan, 2.0]).view(3, 1, 1)
    with use_backend("numba"):
        out = Greatest(choose)(current).flatten()
    assert out.isnan().tolist() == [False, True, True]


class Gates(Neuron):
    """Four states and some eighty operations, as of a conductance-based neuron."""

    states = ("membrane", "m", "h", "n")

    def step(self, current: Tensor, membrane: Tensor, *gates: Tensor) -> tuple[Tensor, ...]:
        """Return spikes and states."""
        opened = []
        for number, gate in enumerate(gates):
            rate = torch.exp(-0.1 * (membrane + number)) + 0.05 * torch.sigmoid(membrane - number)
            opened.append(gate + 0.1 * (rate * (1 - gate) - 0.5 * torch.exp(-0.2 * membrane) * gate))
        m, h, n = opened
        flow = m * m * m * h * (membrane - 0.5) + n * n * n * n * (membrane + 0.7) + 0.3 * (membrane + 0.5)
        membrane = membrane + 0.1 * (current - flow)
        return self.fire(membrane - self.threshold), membrane, m, h, n


def test_a_neuron_of_many_states_and_operations_has_a_backward_pass() -> None:
    results = []
    for backend in ("numba", "eager"):
        x = (4 * currents(4, 2, 50)).requires_grad_()
        with use_backend(backend):
            spikes = Gates(surrogate=ATan())(x)
        results.append((spikes, *torch.autograd.grad((spikes * currents(4, 2, 50, seed=2)).sum(), x)))
    assert is_active(*results[1])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
