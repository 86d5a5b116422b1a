"""Objectives against values worked out by hand, and against the formulas of their papers."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
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


@pytest.mark.parametrize("function", [F.cross_entropy, torch.nn.CrossEntropyLoss(), F.mse_loss])
def test_an_output_is_no_argument_of_a_torch_function(function: Callable[..., Tensor]) -> None:
    with pytest.raises(TypeError, match="or call model"):
        function(OUTPUT, LABEL)


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


@given(
    steps=st.integers(1, 5),
    batch=st.integers(1, 4),
    weight=st.floats(0, 1),
    target=st.floats(-2, 2),
    smoothing=st.floats(0, 0.5),
    seed=st.integers(0, 2**31),
)
def test_tet_is_the_mean_of_the_losses_of_the_steps(
    steps: int, batch: int, weight: float, target: float, smoothing: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(steps, batch, 3, generator=generator, dtype=torch.float64)
    labels = torch.randint(3, (batch,), generator=generator)
    expected = 0.0
    for step in logits:
        log_p = step.log_softmax(1)
        hard = (1 - smoothing) * F.nll_loss(log_p, labels) - smoothing * log_p.mean()
        expected += ((1 - weight) * hard + weight * (step - target).square().mean()) / steps
    loss = TET(weight, target)(ShortcutOutput(logits), labels, 0.7, smooth(smoothing))
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-9)


def test_gradient_of_tet_at_every_step_equals_the_numerical_one() -> None:
    logits = torch.randn(3, 2, 4, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([1, 3])
    assert torch.autograd.gradcheck(lambda x: TET(0.2)(ShortcutOutput(x), labels, 0.0), logits)
    # Of the loss of the mean, every step has the same gradient; TET's differ.
    (gradient,) = torch.autograd.grad(TET(0.0)(ShortcutOutput(logits), labels, 0.0), logits)
    error = (logits.softmax(2) - F.one_hot(labels, 4)) / (3 * 2)
    torch.testing.assert_close(gradient, error)


def test_tet_refuses_logits_without_time() -> None:
    with pytest.raises(ValueError, match=r"every time step, \[T, N, classes\], got shape \(1, 2\).*readout='sequence'"):
        TET()(ShortcutOutput(OUTPUT.main), LABEL, 0.0)


def test_tet_is_for_regression_with_a_weight_of_0_alone() -> None:
    outputs, target = ShortcutOutput(torch.randn(3, 2, 4)), torch.randn(2, 4)
    expected = (outputs.main - target).square().mean()
    torch.testing.assert_close(TET(0.0)(outputs, target, 0.0, F.mse_loss), expected)
    with pytest.raises(ValueError, match="not classes: set its weight to 0"):
        TET()(outputs, target, 0.0, F.mse_loss)


LABELS = torch.tensor([0, 2])


def output(seed: int = 0) -> ShortcutOutput:
    generator = torch.Generator().manual_seed(seed)
    main, *branches = (torch.randn(2, 3, generator=generator, dtype=torch.float64) for _ in range(3))
    return ShortcutOutput(main, tuple(branches))


def soft(logits: Tensor, temperature: float) -> list[list[float]]:
    """Probabilities at a temperature, each exp by itself."""
    powers = [[math.exp(value / temperature) for value in row] for row in logits.tolist()]
    return [[value / sum(row) for value in row] for row in powers]


@given(seed=st.integers(0, 2**31), share=st.floats(0, 1), temperature=st.floats(0.5, 8), branch_weight=st.floats(0, 2))
def test_self_distillation_by_its_formula(seed: int, share: float, temperature: float, branch_weight: float) -> None:
    given_ = output(seed)
    expected = F.cross_entropy(given_.main, LABELS).item()
    teacher = soft(given_.main, temperature)
    for branch in given_.branches:
        student = soft(branch, temperature)
        divergence = sum(
            p * math.log(p / q) for ps, qs in zip(teacher, student, strict=True) for p, q in zip(ps, qs, strict=True)
        ) / len(teacher)
        hard = F.cross_entropy(branch, LABELS).item()
        expected += branch_weight * ((1 - share) * hard + share * temperature**2 * divergence)
    loss = SelfDistillation(share, temperature)(given_, LABELS, branch_weight)
    assert loss.item() == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_gradients_of_self_distillation_equal_numerical_ones_and_spare_the_teacher() -> None:
    given_ = output()
    main = given_.main.requires_grad_()
    branches = [branch.requires_grad_() for branch in given_.branches]
    objective = SelfDistillation(0.4, 3.0)
    assert torch.autograd.gradcheck(lambda *x: objective(ShortcutOutput(main.detach(), x), LABELS, 0.8), branches)
    objective(given_, LABELS, 0.8).backward()
    (expected,) = torch.autograd.grad(F.cross_entropy(main, LABELS), main)
    torch.testing.assert_close(main.grad, expected)


def test_self_distillation_is_computed_in_float32_under_autocast() -> None:
    main = torch.randn(64, 10).bfloat16()
    branch = (main + 0.05 * torch.randn(64, 10)).bfloat16().requires_grad_()
    labels, objective = torch.arange(64) % 10, SelfDistillation(share=1.0)
    exact = branch.detach().double().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = objective(ShortcutOutput(main, (branch,)), labels, 1.0) - F.cross_entropy(main, labels)
    expected = objective(ShortcutOutput(main.double(), (exact,)), labels, 1.0) - F.cross_entropy(main.double(), labels)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-2)
    loss.backward()
    expected.backward()
    assert (branch.grad.double() - exact.grad).norm() < 0.01 * exact.grad.norm()


def test_self_distillation_of_every_pixel_is_the_mean_over_pixels() -> None:
    main, branch = torch.randn(2, 3, 2, 2), torch.randn(2, 3, 2, 2)
    target = torch.randint(3, (2, 2, 2))
    whole = SelfDistillation(0.4)(ShortcutOutput(main, (branch,)), target, 0.8)
    flat = [x.movedim(1, -1).flatten(0, 2) for x in (main, branch)]
    torch.testing.assert_close(whole, SelfDistillation(0.4)(ShortcutOutput(flat[0], (flat[1],)), target.flatten(), 0.8))


def test_targets_of_self_distillation_must_be_classes_or_probabilities() -> None:
    given_ = output()
    with pytest.raises(ValueError, match=r"compares probabilities of classes.*use loss_sum"):
        SelfDistillation()(given_, torch.randn(2, 3), 1.0, F.mse_loss)
    assert SelfDistillation()(given_, torch.randn(2, 3).double().softmax(1), 1.0).isfinite()
