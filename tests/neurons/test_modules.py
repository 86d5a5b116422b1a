"""Neurons as modules: streaming, the parameters that they refuse, and the special variants."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from snntorch import surrogate as snntorch_surrogate
from spikingjelly.activation_based import surrogate as spikingjelly_surrogate
from torch import Tensor, nn

from shortcut_snn import attach, nets
from shortcut_snn.neurons import (
    ALIF,
    IF,
    ILIF,
    LIF,
    PLIF,
    PSN,
    ATan,
    Neuron,
    Rectangle,
    Synaptic,
    per_channel,
    use_backend,
)

from .every_neuron import NEURONS, currents


@pytest.mark.parametrize("make", [IF, LIF, PLIF])
def test_a_call_starts_from_zero_and_keeps_nothing(make: type[Neuron]) -> None:
    neuron, current = make(), currents(8, 4, 16)
    assert torch.equal(neuron(current), neuron(current))
    assert not list(neuron.buffers())


@pytest.mark.parametrize("name", ["clif", "rlif"])
def test_streaming_with_several_states_equals_the_whole(name: str) -> None:
    neuron, current = NEURONS[name](), currents(6, 2, 5, 3)
    for backend in ("numba", "eager"):
        with use_backend(backend), torch.no_grad():
            whole, final = neuron.stream(current)
            first, state = neuron.stream(current[:2])
            second, last = neuron.stream(current[2:], state)
        assert state.shape == (2, 2, 5, 3)
        assert torch.equal(torch.cat([first, second]), whole)
        assert torch.equal(last, final)


class Forgetful(LIF):
    """Its step returns one of its two states."""

    states = ("membrane", "fatigue")

    def step(self, current: torch.Tensor, membrane: torch.Tensor, fatigue: torch.Tensor) -> tuple[torch.Tensor, ...]:
        membrane = self.decay * membrane + current
        return self.fire(membrane - self.threshold - fatigue), membrane


def test_a_step_that_returns_too_few_states_is_refused() -> None:
    with use_backend("eager"), pytest.raises(ValueError, match=r"2 states .*got 1"):
        Forgetful()(currents(4, 2, 5))


NAN = float("nan")


@pytest.mark.parametrize(
    ("make", "options", "keyword"),
    [
        (IF, {"threshold": 0.0}, "threshold"),
        (LIF, {"threshold": NAN}, "threshold"),
        (PLIF, {"threshold": float("inf")}, "threshold"),
        (LIF, {"reset": "none"}, "reset .*hard, soft"),
        (LIF, {"decay": 1.01}, "decay"),
        (LIF, {"decay": NAN}, "decay"),
        (PLIF, {"decay": 0.0}, "decay"),
        (PLIF, {"decay": 1.0}, "decay"),
        (Synaptic, {"synapse": 2.0}, "synapse"),
        (ALIF, {"adaptation": -0.1}, "adaptation"),
        (ALIF, {"rise": -1.0}, "rise"),
        (ILIF, {"max_spikes": -1}, "max_spikes"),
        (ILIF, {"max_spikes": 2.5}, "max_spikes"),
    ],
)
def test_a_parameter_out_of_range_is_refused(make: type[Neuron], options: dict, keyword: str) -> None:
    with pytest.raises(ValueError, match=keyword):
        make(**options)


@pytest.mark.parametrize("surrogate", [spikingjelly_surrogate.ATan(), snntorch_surrogate.atan()])
def test_a_surrogate_that_returns_spikes_is_refused(surrogate: Any) -> None:
    with pytest.raises(ValueError, match=r"must be the derivative of a spike, but .* returns the spike"):
        LIF(surrogate=surrogate)


def test_numbers_of_numpy_and_fractions_run_in_kernels(recwarn: pytest.WarningsRecorder) -> None:
    x = torch.rand(4, 2, 3)
    with use_backend("numba"):
        assert torch.equal(LIF(np.float32(0.5), Fraction(1))(x), LIF(0.5, 1)(x))
    assert not recwarn


class InPlace(LIF):
    """Its step changes its state in place."""

    def step(self, current: torch.Tensor, membrane: torch.Tensor) -> tuple[torch.Tensor, ...]:
        membrane *= self.decay
        membrane += current
        return self.fire(membrane - self.threshold), membrane


@pytest.mark.parametrize("backend", ["numba", "eager"])
def test_a_step_that_works_in_place_leaves_the_state_it_was_given(backend: str) -> None:
    neuron, x = InPlace(), torch.full((4, 1, 1), 0.4, requires_grad=True)
    with use_backend(backend):
        _, state = neuron.stream(x)
        before = state.clone()
        neuron.stream(x, state)[0].sum().backward()
    assert torch.equal(state, before)


def test_each_reason_to_run_in_plain_pytorch_is_warned_of() -> None:
    first, second, x = Unusual(), Unusual(), torch.rand(4, 2, 3)
    first.surrogate = lambda v: v.sum().expand_as(v)
    second.parts = nn.ParameterList([nn.Parameter(torch.zeros(3)) for _ in range(9)])
    with use_backend("numba"):
        with pytest.warns(UserWarning, match="Unusual runs step by step in plain PyTorch.*no kernel for sum"):
            first(x)
        with pytest.warns(UserWarning, match="it has 9 parameters per channel, more than 8"):
            second(x)


class Unusual(LIF):
    """Adds any number of parameters per channel to its current."""

    parts: nn.ParameterList

    def step(self, current: torch.Tensor, *states: torch.Tensor) -> tuple[torch.Tensor, ...]:
        for part in getattr(self, "parts", ()):
            current = current + per_channel(part, current) * current
        return super().step(current, *states)


def test_a_surrogate_without_its_brackets_is_refused() -> None:
    with pytest.raises(TypeError, match=r"surrogate must be a function of the distance.*Rectangle"):
        LIF(surrogate=Rectangle)  # type: ignore[arg-type]


class Bell(nn.Module):
    """A surrogate as a module."""

    def forward(self, v: Tensor) -> Tensor:
        return torch.exp(-v.abs())


def test_a_module_can_be_a_surrogate() -> None:
    network = nets.SpikingResNet([1, 1], 5, 3, width=4, make_neuron=lambda: LIF(surrogate=Bell()))
    images, labels = torch.rand(16, 3, 8, 8), torch.arange(16) % 5
    model = attach(network, example=images, labels=labels, method="initialised_loss_sum", log=lambda line: None)
    model.loss(model(images), labels, 0, 2).backward()
    assert network.stem.conv.weight.grad.any()
    neuron = network.stem.spike.neuron
    neuron.surrogate = ATan(4.0)
    assert neuron.surrogate == ATan(4.0)
    assert "surrogate" not in dict(neuron.named_children())


def test_a_threshold_that_is_a_tensor_is_refused() -> None:
    with pytest.raises(TypeError, match="threshold"):
        LIF(threshold=nn.Parameter(torch.tensor(1.0)))


def test_repr_shows_the_parameters() -> None:
    neuron = LIF(0.25, threshold=2.0, surrogate=Rectangle(4.0), reset="soft", detach_reset=True)
    assert repr(neuron) == "LIF(decay=0.25, threshold=2, surrogate=Rectangle(width=4.0), reset=soft, detach_reset)"
    assert "decay=0.3, threshold=1" in repr(nn.Sequential(PLIF(0.3)))


def test_ilif_takes_another_largest_output() -> None:
    neuron, current = ILIF(max_spikes=1), torch.full((1, 1, 1), 3.0, requires_grad=True)
    neuron.max_spikes = 4
    neuron(current).sum().backward()
    assert neuron(current).item() == 3
    assert torch.equal(current.grad, torch.ones(1, 1, 1))


def test_repr_shows_the_mean_of_a_decay_for_each_channel() -> None:
    neuron = LIF()
    neuron.decay = nn.Parameter(torch.tensor([0.25, 0.75]))
    neuron.threshold = nn.Parameter(torch.tensor(2.0))
    assert "decay=0.5, threshold=2," in repr(nn.Sequential(neuron))


class Threshold(Neuron):
    """A neuron without state."""

    states = ()

    def step(self, current: torch.Tensor) -> tuple[torch.Tensor]:
        """Return spikes."""
        return (self.fire(current - self.threshold),)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_neuron_without_state_runs_in_kernels_and_without(dtype: torch.dtype) -> None:
    current = 2 * torch.rand(3, 2, 4, dtype=dtype)
    assert torch.equal(Threshold()(current), (current > 1).to(dtype))


@pytest.mark.parametrize("make", [PSN, LIF])
def test_autocast_changes_no_spikes(make: type[Neuron]) -> None:
    torch.manual_seed(0)
    neuron, current = make(), 2 * torch.randn(4, 64, 100)
    with torch.autocast("cpu", torch.bfloat16):
        spikes = neuron(current)
    assert spikes.dtype == current.dtype
    assert torch.equal(spikes, neuron(current))
