"""Which output attach reads, and which outputs of a step it passes on as state."""

import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shortcut_snn import Shortcut, TimeLoop, attach
from shortcut_snn.neurons import ATan, straight_through


class Spiking(nn.Module):
    """Three layers with neurons of its own; subclasses choose what they return of ``[T, N, C]``."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(6, 16), nn.Linear(16, 12), nn.Linear(12, 4)
        self.fire = ATan()

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Tensor, Any]:
        """Return hidden spikes, the potential of the last layer, and the state."""
        first, second, last = (torch.zeros(()),) * 3 if state is None else state
        first = 0.8 * first + self.first(x)
        spikes = self.fire(first - 0.3)
        second = 0.8 * second + self.second(spikes)
        hidden = self.fire(second - 0.3)
        last = 0.8 * last + self.head(hidden)
        return hidden, last, (first * (1 - spikes), second * (1 - hidden), last)

    def sequence(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return hidden spikes and potentials of the last layer, ``[T, N, C]``, for ``[N, T, 6]``."""
        state, hidden, potentials = None, [], []
        for step in x.unbind(1):
            spikes, potential, state = self.step(step, state)
            hidden.append(spikes)
            potentials.append(potential)
        return torch.stack(hidden), torch.stack(potentials)


SEQUENCES, LABELS = 3 * torch.rand(5, 7, 6), torch.arange(5) % 4


def wrapped(network: nn.Module, example: Any = SEQUENCES, labels: Tensor | None = LABELS, **options: Any) -> Shortcut:
    return attach(network, example=example, labels=labels, log=lambda line: None, **options)


# Which output is read


class HiddenFirst(Spiking):
    def forward(self, x: Tensor) -> Any:
        hidden, potentials = self.sequence(x)
        return hidden, potentials, self.fire(potentials)


class MeanBeside(Spiking):
    def forward(self, x: Tensor) -> Any:
        _, potentials = self.sequence(x)
        return potentials, potentials.mean(0)


@pytest.mark.parametrize("kind", [HiddenFirst, MeanBeside])
def test_which_tensor_holds_the_logits_is_asked(kind: Callable[[], nn.Module]) -> None:
    network = kind()
    with pytest.raises(ValueError, match=r"output\[0\] of .*any of these may be the logits.*output\[0\], or"):
        wrapped(network)
    model = wrapped(network, readout=lambda output: output[1].reshape(-1, 5, output[1].shape[-1]).mean(0)).eval()
    expected = network.eval()(SEQUENCES)[1]
    torch.testing.assert_close(model(SEQUENCES).main, expected.mean(0) if expected.dim() == 3 else expected)


class Mixed(Spiking):
    def forward(self, x: Tensor) -> Any:
        hidden, potentials = self.sequence(x)
        return {"logits": potentials.mean(0) - potentials.mean((0, 1)), "rates": hidden.mean(0)}


def test_the_output_that_mixes_samples_is_named() -> None:
    with pytest.raises(ValueError, match=r"output\['logits'\].*altering one sample changes others.*readout="):
        wrapped(Mixed())


def test_labels_are_compared_with_the_callers_own_readout() -> None:
    network = MeanBeside()
    assert wrapped(network, readout=lambda output: output[1], labels=torch.rand(5, 4)).layout.num_classes == 4
    with pytest.raises(ValueError, match=r"labels of shape \(5, 3\) do not fit"):
        wrapped(network, readout=lambda output: output[1], labels=torch.rand(5, 3))


class Averaged(nn.Module):
    """Evaluation averages the two predictions of training, as with a head that is distilled."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU())
        self.fine, self.coarse = nn.Linear(8, 4), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Any:
        fine, coarse = self.fine(self.body(x)), self.coarse(self.body(x))
        return (fine, coarse) if self.training else (fine + coarse) / 2


def test_a_network_that_returns_more_in_training_is_asked_about() -> None:
    x = torch.rand(5, 6)
    for options in ({}, {"taps": []}):
        with pytest.raises(
            ValueError, match=r"tuple of 2 entries .*in training, and a tensor of .* in evaluation.*readout="
        ):
            wrapped(Averaged(), x, **options)

    def mean(output: Any) -> Tensor:
        return output if isinstance(output, Tensor) else (output[0] + output[1]) / 2

    network = Averaged()
    model = wrapped(network, x, readout=mean)
    model(x).main.sum().backward()
    assert network.coarse.weight.grad is not None


# Every time step


class EveryStep(Spiking):
    def forward(self, x: Tensor) -> Tensor:
        return self.sequence(x.transpose(0, 1))[1]


@pytest.mark.parametrize("labels", [torch.rand(7, 5, 4), torch.randint(4, (7, 5))])
def test_labels_may_begin_with_time_as_the_example_does(labels: Tensor) -> None:
    x = SEQUENCES.transpose(0, 1)
    with pytest.raises(ValueError, match=r"do not fit.*step_axis=0 for \[T, N, \.\.\.\]"):
        wrapped(EveryStep(), x, labels, batch_axis=1)
    out = wrapped(EveryStep(), x, labels, batch_axis=1, step_axis=0)(x)
    assert out.main.shape == out.branches[0].shape == (7, 5, 4)


class Anchors(Spiking):
    """Predicts a class at each of some anchors, at every time step, with the classes in the last axis or before."""

    def __init__(self, axis: int, anchors: int) -> None:
        super().__init__()
        self.axis, self.anchors, self.head = axis, anchors, nn.Linear(12, 4 * anchors)

    def forward(self, x: Tensor) -> Tensor:
        hidden, _ = self.sequence(x.transpose(0, 1))
        return self.head(hidden).unflatten(2, (self.anchors, 4)).movedim(-1, self.axis)


@pytest.mark.parametrize("anchors", [3, 4])
def test_labels_of_every_step_and_anchor(anchors: int) -> None:
    x, labels = SEQUENCES.transpose(0, 1), torch.randint(4, (7, 5, anchors))
    out = wrapped(Anchors(2, anchors), x, labels, batch_axis=1, step_axis=0)(x)
    assert out.main.shape == out.branches[0].shape == (7, 5, 4, anchors)
    F.cross_entropy(out.branches[0].flatten(0, 1), labels.flatten(0, 1)).backward()
    for bad in (Anchors(3, 3), Anchors(2, anchors)):
        with pytest.raises(ValueError, match=r"labels of .* do not fit"):
            wrapped(bad, x, torch.randint(4, (7, 5, 2)), batch_axis=1, step_axis=0)


class Outside(nn.Module):
    """Layers take all steps at once, and a loop over time steps the neurons between them."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(*sizes) for sizes in ((6, 16), (16, 12), (12, 4)))
        self.neurons = nn.ModuleList(nn.PReLU() for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        for layer, neuron in zip(self.layers, self.neurons, strict=False):
            state, steps = torch.zeros(()), []
            for step in layer(x).unbind(1):
                state = neuron(0.5 * state + step)
                steps.append(state)
            x = torch.stack(steps, 1)
        return self.layers[-1](x).mean(1)


def test_neurons_may_be_stepped_while_layers_are_not() -> None:
    model = wrapped(Outside(), taps=["neurons.0", "neurons.1"])
    assert [(tap.calls, tap.channels) for tap in model.layout.taps] == [(7, 16), (7, 12)]


# States that a step returns


class ByName(Spiking):
    def forward(self, x: Tensor, first: Any = None, second: Any = None, last: Any = None) -> Any:
        _, potential, state = self.step(x, None if first is None else (first, second, last))
        return potential, *state


class InOne(Spiking):
    def forward(self, x: Tensor, hidden: Any) -> Any:
        _, potential, state = self.step(x, hidden)
        return potential, state


class InDictionary(Spiking):
    def forward(self, x: Tensor, hidden: Any = None) -> Any:
        _, potential, state = self.step(x, hidden)
        return {"out": potential, "hidden": state}


@pytest.mark.parametrize("kind", [ByName, InOne, InDictionary])
def test_a_step_gets_back_the_state_that_it_returns(kind: Callable[[], Spiking]) -> None:
    network, x, lines = kind(), SEQUENCES.transpose(0, 1), list[str]()
    names = ("first", "second", "last") if kind is ByName else ("hidden",)
    options: dict[str, Any] = {"example": x, "labels": LABELS, "readout": "mean"}
    if kind is not InOne:
        # An argument with a default may be something else than state.
        with pytest.raises(ValueError, match=r"may take back.*TimeLoop\(carry=.* or loop=shortcut_snn.TimeLoop\(\) if"):
            attach(network, loop="input", **options)
    model = attach(network, loop=TimeLoop(carry=names), log=lines.append, **options).eval()
    torch.testing.assert_close(model(x).main, network.sequence(SEQUENCES)[1].mean(0))
    assert f"loop=shortcut_snn.TimeLoop(carry={names})" in lines[0]
    shown = wrapped(network, x[0], loop=TimeLoop(3, names), readout="mean")
    assert model(x).main.shape == shown(x[0]).main.shape
    with pytest.raises(ValueError, match=r"may compute one step per call, .*pass loop=4"):
        wrapped(network, x[0])


def test_initial_states_may_be_part_of_the_batch() -> None:
    network, x = ByName(), SEQUENCES.transpose(0, 1)
    batch = (x, *(torch.zeros(5, width) for width in (16, 12, 4)))
    with pytest.raises(ValueError, match=r"may take back .*first, second, last"):
        wrapped(network, batch, loop="input", readout="mean")
    model = wrapped(network, batch, loop=TimeLoop(carry=("first", "second", "last")), readout="mean").eval()
    torch.testing.assert_close(model(*batch).main, network.sequence(SEQUENCES)[1].mean(0))


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Parameter(torch.randn(6, 12)), nn.Parameter(torch.randn(12, 4))

    def forward(self, x: Tensor) -> Tensor:
        return (x.mean(1) @ self.first).relu() @ self.second


def test_a_network_without_called_submodules_is_told_so() -> None:
    with pytest.raises(ValueError, match="does not call any submodule, so there is no output to tap"):
        wrapped(Functional())


# Neurons that return more than spikes


class PotentialFirst(nn.Module):
    """A neuron of its own, which returns its potential before its spikes."""

    def forward(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        v = 0.5 * v + x
        spikes = straight_through((v > 0.5).float(), v - 0.5, ATan())
        return v - spikes, spikes


class OwnNeurons(Spiking):
    def __init__(self) -> None:
        super().__init__()
        self.lif = PotentialFirst()

    def forward(self, x: Tensor) -> Tensor:
        v, outputs = torch.zeros(len(x), 16), []
        for step in x.unbind(1):
            v, spikes = self.lif(self.first(step), v)
            outputs.append(self.head(self.second(spikes)))
        return torch.stack(outputs, 1).mean(1)


def test_a_branch_reads_the_spikes_of_neurons_that_return_potentials_first() -> None:
    model = wrapped(OwnNeurons(), taps=["lif"])
    (tap,) = pickle.loads(pickle.dumps(model.layout.taps))
    potentials, spikes = torch.zeros(5, 16), torch.ones(5, 16)
    assert torch.equal(tap.features((potentials, spikes)), spikes)
    model(SEQUENCES).branches[0].sum().backward()
    assert model.network.first.weight.grad.any()


class TimeLast(Spiking):
    """``[N, F, T]`` to the logits of every step, ``[N, classes, T]``."""

    def forward(self, x: Tensor) -> Tensor:
        return self.sequence(x.transpose(1, 2))[1].movedim(0, -1)


def test_time_may_be_the_last_axis() -> None:
    x = SEQUENCES.transpose(1, 2)
    model = wrapped(TimeLast(), x, readout="mean")
    torch.testing.assert_close(model.eval()(x).main, model.network(x).mean(-1))


def test_a_question_about_time_names_the_last_axis() -> None:
    class Last(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).unsqueeze(2).expand(-1, -1, 3)

    with pytest.raises(ValueError, match=r"\.mean\(-1\) for \[N, classes, T\]"):
        wrapped(Last(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 4)), torch.rand(5, 6))


# Inputs that take no values but their own


class Masked(nn.Module):
    """Refuses masks with another number of ones."""

    def __init__(self, rows: int | None = 2) -> None:
        super().__init__()
        self.layers, self.rows = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 4)), rows

    def forward(self, x: Tensor) -> Tensor:
        ones = x[:, 0].sum(1)
        if (not torch.equal(x, X_WITH_MASK)) if self.rows is None else (ones != self.rows).any():
            raise RuntimeError("mask length mismatch")
        return self.layers(x[:, 1])


X_WITH_MASK = torch.stack([torch.tensor([1.0, 1.0, 0.0, 0.0, 0.0, 0.0]).expand(5, 6), torch.rand(5, 6)], 1)


def test_samples_are_altered_to_values_that_the_network_takes() -> None:
    assert wrapped(Masked(), X_WITH_MASK, taps=["layers.1"]).layout.batch_axis == 0
    with pytest.raises(ValueError, match=r"Masked takes the example, but not .* changed \(mask length mismatch\)"):
        wrapped(Masked(None), X_WITH_MASK, taps=["layers.1"])
