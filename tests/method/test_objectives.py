"""Objectives against values worked out by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from shortcut_snn import TET, LogitSum, LossSum, SelfDistillation, ShortcutOutput, components
from shortcut_snn.components.entries import read, write
from shortcut_snn.method import Objective
from shortcut_snn.method.objectives import takes_branches, takes_every_step

from .toys import smooth

# Two classes, label 0: the cross-entropy of logits (a, b) is log(1 + exp(b - a)).
OUTPUT = ShortcutOutput(torch.tensor([[2.0, 0.0]]), (torch.tensor([[0.0, 4.0]]), torch.tensor([[1.0, 1.0]])))
LABEL = torch.tensor([0])


def cross_entropy(ahead: float) -> float:
    return math.log1p(math.exp(-ahead))


@pytest.mark.parametrize(
    ("branch_weight", "ahead"),
    # Logits (2 + 0 + 1, 0 + 4 + 1), (2 + 0 + 0.25, 0 + 1 + 0.25) and (2, 0).
    [(1.0, -2.0), (0.25, 1.0), (0.0, 2.0)],
)
def test_logit_sum(branch_weight: float, ahead: float) -> None:
    assert LogitSum()(OUTPUT, LABEL, branch_weight).item() == pytest.approx(cross_entropy(ahead))


def test_logits_of_other_shapes_are_not_summed() -> None:
    """With as many samples as places they would be, each branch's of one sample with another's."""
    with pytest.raises(ValueError, match=r"a branch gives \(6, 3\) and the network \(6, 6, 3\), which cannot"):
        LogitSum()(ShortcutOutput(torch.zeros(6, 6, 3), (torch.zeros(6, 3),)), torch.zeros(6, 3).long(), 0.5)


@pytest.mark.parametrize("branch_weight", [1.0, 0.25, 0.0])
@pytest.mark.parametrize(("average", "share"), [(False, 1.0), (True, 0.5)])
def test_loss_sum(average: bool, share: float, branch_weight: float) -> None:
    expected = cross_entropy(2.0) + branch_weight * share * (cross_entropy(-4.0) + cross_entropy(0.0))
    assert LossSum(average=average)(OUTPUT, LABEL, branch_weight).item() == pytest.approx(expected)


@pytest.mark.parametrize("objective", [LogitSum(), LossSum(), LossSum(average=True), SelfDistillation()], ids=str)
@given(branch_weight=st.floats(0, 10), smoothing=st.floats(0, 0.5))
def test_without_branches_it_is_the_main_output_s(objective: Objective, branch_weight: float, smoothing: float) -> None:
    main, labels = torch.tensor([[0.3, -1.0, 2.0], [1.0, 0.0, 0.5]]), torch.tensor([1, 2])
    log_p = main.log_softmax(1)
    expected = (1 - smoothing) * F.nll_loss(log_p, labels) - smoothing * log_p.mean()
    torch.testing.assert_close(objective(ShortcutOutput(main), labels, branch_weight, smooth(smoothing)), expected)


@pytest.mark.parametrize("shape", [(4,), (4, 3), (4, 3, 5, 5)])
def test_regression_of_any_shape(shape: tuple[int, ...]) -> None:
    main, branch, target = torch.randn(shape), torch.randn(shape), torch.randn(shape)
    output = ShortcutOutput(main, (branch,))
    summed = (main + 0.3 * branch - target).square().mean()
    torch.testing.assert_close(LogitSum()(output, target, 0.3, F.mse_loss), summed)
    losses = (main - target).square().mean() + 0.3 * (branch - target).square().mean()
    torch.testing.assert_close(LossSum()(output, target, 0.3, F.mse_loss), losses)


def test_every_one_is_a_component_that_says_what_it_needs() -> None:
    made = {name: components.objective.make(name) for name in components.objective}
    assert {"logit_sum", "loss_sum", "distillation", "tet", "step_loss_sum"} <= made.keys()
    assert {name for name, each in made.items() if takes_every_step(each)} == {"tet", "step_loss_sum"}
    assert {name for name, each in made.items() if not takes_branches(each)} == {"tet"}
    objective = read(components.objective, {"kind": "loss_sum", "average": True}, "objective")
    assert objective == LossSum(average=True)
    assert write(TET(0.5)) == {"kind": "tet", "weight": 0.5, "target": 1.0}
    # A function of anybody's, which says nothing, has branches and one output a sample.
    assert not takes_every_step(lambda output, target, branch_weight, criterion: output.main.sum())
