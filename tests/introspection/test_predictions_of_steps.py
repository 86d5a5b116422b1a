"""Predictions of every time step in networks that step themselves, where branches must predict every step too."""

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
    return attach(network, example=x, labels=labels, **{"log": len, "batch_axis": 0, **options})


def moved_by(model: Shortcut, step: int, x: Tensor = X) -> list[int]:
    """Return the steps of a branch that an input at one step changes."""
    axis, other = model.layout.step_axis, x.clone()
    other[:, step] += 1
    changed = (model(x).branches[0] - model(other).branches[0]).abs().movedim(axis, 0).flatten(1).amax(1)
    return (changed > 0).nonzero().flatten().tolist()


@pytest.mark.parametrize("calls", [True, False], ids=["calls", "sequences"])
@pytest.mark.parametrize("labels", [CLASSES, NUMBERS], ids=["classes", "numbers"])
def test_a_branch_predicts_each_step(calls: bool, labels: Tensor) -> None:
    network, step_axis = Steps(calls, 1 if labels is CLASSES else -1), 2 if labels is CLASSES else 1
    with pytest.raises(ValueError, match=r"pass (step_axis=1 or )?step_axis=.*or step_axis=None") as raised:
        wrapped(network, labels)
    assert f"step_axis={step_axis}" in str(raised.value)
    lines: list[str] = []
    model = wrapped(network, labels, step_axis=step_axis, log=lines.append)
    assert "at each time step" in lines[0]
    out = model(X)
    assert out.main.shape == out.branches[0].shape == ((5, 4, 7) if labels is CLASSES else (5, 7, 4))
    assert moved_by(model, 5) in ([5], [5, 6])
    loss = F.cross_entropy if labels is CLASSES else F.mse_loss
    loss(out.branches[0], labels).backward()
    assert network.first.weight.grad.any()
    # A batch of another length.
    assert model(X[:, :4]).branches[0].shape == (5, 4, 4)


def test_all_steps_may_be_predicted_at_once() -> None:
    model = wrapped(Steps(), NUMBERS, step_axis=None)
    assert model(X).branches[0].shape == (5, 7, 4)
    assert model.layout.step_axis is None
    assert wrapped(Steps(axis=1), CLASSES, step_axis=None)(X).branches[0].shape == (5, 4, 7)


def test_classes_in_the_last_axis_lead_to_a_readout() -> None:
    with pytest.raises(ValueError, match=r"lambda output: output.transpose\(1, 2\), which gives .* with step_axis=2"):
        wrapped(Steps(), CLASSES)
    model = wrapped(Steps(), CLASSES, readout=lambda output: output.transpose(1, 2), step_axis=2)
    assert model(X).main.shape == model(X).branches[0].shape == (5, 4, 7)


class OneNumber(Steps):
    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x)[..., 0]


def test_a_branch_predicts_one_number_of_each_step() -> None:
    labels = torch.randn(5, 7)
    with pytest.raises(ValueError, match="pass step_axis=1 if that axis of the prediction is time"):
        wrapped(OneNumber(), labels)
    model = wrapped(OneNumber(), labels, step_axis=1)
    assert model(X).branches[0].shape == (5, 7)
    assert moved_by(model, 5) == [5]
    assert wrapped(OneNumber(), labels, step_axis=None)(X).branches[0].shape == (5, 7)


class OneStep(Steps):
    """Computes one time step in each call."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = (snntorch.Leaky(0.5, init_hidden=True, threshold=0.1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.other(self.second(self.one(self.first(x)))))


def test_labels_of_steps_where_a_call_computes_one_step() -> None:
    x, labels, network = X.transpose(0, 1), CLASSES.T, OneStep()
    model = wrapped(network, labels, x, batch_axis=1, step_axis=0, method="loss_sum").eval()
    main = model(x).main
    utils.reset(network)
    torch.testing.assert_close(main, torch.stack([network(step) for step in x]))
    out = model.train()(x)
    assert out.main.shape == out.branches[0].shape == (7, 5, 4)
    expected = F.cross_entropy(out.main.flatten(0, 1), labels.flatten())
    torch.testing.assert_close(model.weighted_loss(out, labels, 0.0), expected)


class Beginning(Steps):
    """The first layer sees the first step alone, so that a branch on it knows no others."""

    def __init__(self) -> None:
        super().__init__(axis=1)
        self.third = nn.Linear(6, 16)

    def logits(self, x: Tensor) -> Tensor:
        return self.head(self.first(x[:, 0]).relu()[:, None, :12] + leaky(self.second(leaky(self.third(x)))))


def test_a_tap_without_time_is_refused_where_each_step_is_predicted() -> None:
    with pytest.raises(ValueError, match=r"tap 'first' gives shape \(5, 16\) in one call, without an axis of time"):
        wrapped(Beginning(), CLASSES, taps=["first"], step_axis=2)
    assert "first" not in wrapped(Beginning(), CLASSES, step_axis=2).taps.names


def test_words_are_time_steps() -> None:
    words, labels = torch.arange(35).view(5, 7) % 9, torch.arange(35).view(5, 7) % 4
    layers = (nn.Embedding(9, 16), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 4))
    options: dict[str, Any] = {"readout": lambda output: output.transpose(1, 2), "step_axis": 2}
    model = wrapped(nn.Sequential(*layers), labels, words, **options)
    assert {tap.time_axis for tap in model.layout.taps} == {1}
    assert model(words).branches[0].shape == (5, 4, 7)


class Exposures(nn.Module):
    """Treats samples and exposures alike."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(6, 16), nn.Linear(16, 12), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.first(x).relu()).relu())


def test_labels_with_the_axes_of_the_example_leave_the_batch_axis_open() -> None:
    with pytest.raises(ValueError, match=r"either of the first axes.*batch_axis=0 if it is \[N, T, \.\.\.\]"):
        wrapped(Exposures(), torch.randint(4, (5, 3)), torch.rand(5, 3, 6), batch_axis="auto")
