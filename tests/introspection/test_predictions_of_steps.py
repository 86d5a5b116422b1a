"""Predictions of every time step in networks that step themselves, where branches must predict every step too."""

from collections.abc import Callable
from typing import Any

import pytest
import snntorch
import torch
from snntorch import utils
from torch import Tensor, nn
from torch.nn import functional as F

from shortcut_snn import Shortcut, attach

X = 3 * torch.rand(5, 7, 6)
CLASSES, NUMBERS = torch.randint(4, (5, 7)), torch.randn(5, 7, 4)


class Steps(nn.Module):
    """``[N, T, F]`` to ``[N, T, 4]``, with neurons that leak; layers are called at each step, or once for all."""

    def __init__(self, calls: bool = True, axis: int = -1) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(6, 16), nn.Linear(16, 12), nn.Linear(12, 4)
        self.calls, self.axis = calls, axis

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x).movedim(-1, self.axis)

    def logits(self, x: Tensor) -> Tensor:
        if not self.calls:
            return self.head(leaky(self.second(leaky(self.first(x)))))
        one = other = torch.zeros(())
        logits = []
        for step in x.unbind(1):
            one = 0.5 * one + self.first(step)
            other = 0.5 * other + self.second(one.relu())
            logits.append(self.head(other.relu()))
        return torch.stack(logits, 1)


def leaky(x: Tensor) -> Tensor:
    v, steps = torch.zeros(()), []
    for step in x.unbind(1):
        v = 0.5 * v + step
        steps.append(v.relu())
    return torch.stack(steps, 1)


def wrapped(network: nn.Module, labels: Tensor, x: Tensor = X, **options: Any) -> Shortcut:
    torch.manual_seed(0)
    return attach(network, example=x, labels=labels, **{"log": len, **options})


def moved_by(model: Shortcut, step: int, x: Tensor = X) -> list[int]:
    """Return the steps of a branch that an input at one step changes."""
    axis, other = model.layout.step_axis, x.clone()
    other[:, step] += 1
    changed = (model(x).branches[0] - model(other).branches[0]).abs().movedim(axis, 0).flatten(1).amax(1)
    return (changed > 0).nonzero().flatten().tolist()


@pytest.mark.parametrize("calls", [True, False], ids=["calls", "sequences"])
@pytest.mark.parametrize("axis", [1, -1])
def test_a_branch_predicts_the_class_of_each_step(calls: bool, axis: int) -> None:
    model = wrapped(Steps(calls, axis), CLASSES)
    out = model(X)
    assert out.main.shape == out.branches[0].shape == (5, 4, 7)
    assert moved_by(model, 5) in ([5], [5, 6])
    F.cross_entropy(out.branches[0], CLASSES).backward()
    assert model.network.first.weight.grad.any()
    # The branch's own numbers, step by step.
    by_hand = model.branches[0](model.network.first(X))
    if model.taps.names == ["first"]:
        torch.testing.assert_close(out.branches[0], by_hand.transpose(1, 2))
    # A batch of another length.
    assert model(X[:, :4]).branches[0].shape == (5, 4, 4)


@pytest.mark.parametrize("calls", [True, False], ids=["calls", "sequences"])
def test_a_branch_predicts_the_numbers_of_each_step(calls: bool) -> None:
    lines: list[str] = []
    model = wrapped(Steps(calls), NUMBERS, log=lines.append)
    assert "at each time step" in lines[0]
    assert model(X).branches[0].shape == (5, 7, 4)
    assert moved_by(model, 5) in ([5], [5, 6])
    assert model.branches[0].classifier.out_features == 4


class OneNumber(Steps):
    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x)[..., 0]


class OneNumberInAnAxis(Steps):
    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x)[..., :1].movedim(1, 0)


def test_one_number_of_each_step_may_have_an_axis_of_its_own() -> None:
    model = attach(OneNumberInAnAxis(), example=X, labels=torch.randn(5, 7), method="loss_sum", log=len)
    assert model(X).main.shape[:2] == model(X).branches[0].shape[:2] == (5, 7)
    model.weighted_loss(model(X), torch.randn(5, 7), 1.0).backward()


def test_a_branch_predicts_one_number_of_each_step() -> None:
    model = wrapped(OneNumber(), torch.randn(5, 7))
    assert model(X).branches[0].shape == (5, 7)
    assert moved_by(model, 5) == [5]


class OneStep(Steps):
    """Computes one time step in each call."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = (snntorch.Leaky(0.5, init_hidden=True, threshold=0.1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.other(self.second(self.one(self.first(x)))))


@pytest.mark.parametrize("batch_axis", [0, 1])
@pytest.mark.parametrize("labels", [CLASSES, NUMBERS], ids=["classes", "numbers"])
def test_labels_may_begin_with_samples_where_a_call_computes_one_step(batch_axis: int, labels: Tensor) -> None:
    x = X if batch_axis == 0 else X.transpose(0, 1)
    network = OneStep()
    model = wrapped(network, labels, x, batch_axis=batch_axis, method="loss_sum").eval()
    main = model(x).main
    utils.reset(network)
    expected = torch.stack([network(step) for step in X.unbind(1)], 1)
    torch.testing.assert_close(main, expected if labels is NUMBERS else expected.transpose(1, 2))
    out = model.train()(x)
    assert out.main.shape == out.branches[0].shape == main.shape
    loss = F.cross_entropy if labels is CLASSES else F.mse_loss
    torch.testing.assert_close(model.weighted_loss(out, labels, 0.0), loss(out.main, labels))


class Seconds(Steps):
    """Predicts the class of each of two parts of the sequence."""

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x).unflatten(1, (2, -1)).sum(2)


def test_a_branch_predicts_the_class_of_each_part_of_the_sequence() -> None:
    x, labels = 3 * torch.rand(5, 8, 6), torch.randint(4, (5, 2))
    for readout in ("auto", lambda output: output.transpose(1, 2)):
        model = wrapped(Seconds(), labels, x, readout=readout)
        assert model(x).branches[0].shape == (5, 4, 2)
        assert moved_by(model, 7, x) == [1]


class Tokens(Steps):
    """Blocks run over tokens at each of three time steps of the neurons, which come first."""

    def forward(self, x: Tensor) -> Tensor:
        hidden = leaky(self.first(x)).expand(3, -1, -1, -1)
        return self.head(self.second(hidden).relu().mean(0))


def test_tokens_are_steps_where_neurons_have_time_steps_of_their_own() -> None:
    model = wrapped(Tokens(), NUMBERS, taps=["second"])
    torch.testing.assert_close(
        model(X).branches[0], model.branches[0](model.network.second(leaky(model.network.first(X))))
    )


class Beginning(Steps):
    """The first layer sees the first step alone, so that a branch on it knows no others."""

    def __init__(self) -> None:
        super().__init__()
        self.third = nn.Linear(6, 16)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.first(x[:, 0]).relu()[:, None, :12] + leaky(self.second(leaky(self.third(x)))))


def test_a_tap_without_time_is_refused_where_each_step_is_predicted() -> None:
    with pytest.raises(ValueError, match=r"tap 'first' gives shape \(5, 16\).*no axis.*7 steps"):
        wrapped(Beginning(), CLASSES, taps=["first"])
    assert "first" not in wrapped(Beginning(), CLASSES).taps.names


class Characters(nn.Module):
    """An image to the classes of three characters, which do not follow its axes."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(48, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU())
        self.head = nn.Linear(8, 15)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(x)).unflatten(1, (5, 3))


def test_positions_that_follow_no_axis_of_the_input_are_predicted_at_once() -> None:
    images = torch.rand(6, 1, 6, 8)
    model = wrapped(Characters(), torch.randint(5, (6, 3)), images)
    branch = model(images).branches[0]
    assert branch.shape == (6, 5, 3)
    assert not torch.allclose(branch[..., 0], branch[..., 1])


@pytest.mark.parametrize("make", [Steps, OneNumber])
def test_a_forecast_stays_a_prediction_of_the_whole_sequence(make: Callable[[], Steps]) -> None:
    class Forecast(make):  # type: ignore[misc, valid-type]
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.flip(1).cumsum(1))

    shape = (5, 7, 4) if make is Steps else (5, 7)
    model = wrapped(Forecast(), torch.randn(shape))
    assert model(X).branches[0].shape == shape
    assert model.layout.step_axis is None


class Exposures(nn.Module):
    """Treats samples and exposures alike, and returns exposures first."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(6, 16), nn.Linear(16, 12), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.first(x).relu()).relu()).transpose(0, 1)


@pytest.mark.parametrize("labels", [torch.rand(3, 5, 4), torch.randint(4, (3, 5))])
def test_labels_with_the_axes_of_the_example_in_another_order_leave_the_batch_axis_open(labels: Tensor) -> None:
    x = torch.rand(5, 3, 6)
    with pytest.raises(ValueError, match=r"either of the first axes.*batch_axis=0 if it is \[N, T, \.\.\.\]"):
        wrapped(Exposures(), labels, x)
    model = wrapped(Exposures(), labels, x, batch_axis=0)
    out, other = model(x), model(torch.cat([x[:-1], x[-1:] + 1]))
    assert (model.layout.batch_axis, out.main.shape, out.branches[0].shape) == (0, (3, 5, 4), (3, 5, 4))
    # The other samples of the branch are as before, and each exposure has a prediction of its own.
    torch.testing.assert_close(out.branches[0][:, :-1], other.branches[0][:, :-1])
    assert not torch.allclose(out.branches[0][0], out.branches[0][1])


class TimeFirst(Steps):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.transpose(0, 1))


@pytest.mark.parametrize("labels", [torch.randint(4, (5, 12)), torch.randn(5, 12, 4)])
def test_long_sequences_may_be_shortened_in_passes(labels: Tensor) -> None:
    x = 3 * torch.rand(12, 5, 6)
    model = wrapped(TimeFirst(axis=2 if labels.is_floating_point() else 1), labels, x)
    assert (model.layout.batch_axis, model.layout.time_steps) == (1, 12)
    assert model(x).branches[0].shape == ((5, 12, 4) if labels.is_floating_point() else (5, 4, 12))
