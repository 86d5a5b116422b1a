"""Self-distillation against its paper's formula, class by class."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from shortcut_snn import SelfDistillation, ShortcutOutput

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
def test_by_the_formula(seed: int, share: float, temperature: float, branch_weight: float) -> None:
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


def test_gradients_equal_numerical_ones_and_spare_the_teacher() -> None:
    given_ = output()
    main = given_.main.requires_grad_()
    branches = [branch.requires_grad_() for branch in given_.branches]
    objective = SelfDistillation(0.4, 3.0)
    assert torch.autograd.gradcheck(lambda *x: objective(ShortcutOutput(main.detach(), x), LABELS, 0.8), branches)
    objective(given_, LABELS, 0.8).backward()
    (expected,) = torch.autograd.grad(F.cross_entropy(main, LABELS), main)
    torch.testing.assert_close(main.grad, expected)


def test_it_is_computed_in_float32_under_autocast() -> None:
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


def test_of_every_pixel_it_is_the_mean_over_pixels() -> None:
    main, branch = torch.randn(2, 3, 2, 2), torch.randn(2, 3, 2, 2)
    target = torch.randint(3, (2, 2, 2))
    whole = SelfDistillation(0.4)(ShortcutOutput(main, (branch,)), target, 0.8)
    flat = [x.movedim(1, -1).flatten(0, 2) for x in (main, branch)]
    torch.testing.assert_close(whole, SelfDistillation(0.4)(ShortcutOutput(flat[0], (flat[1],)), target.flatten(), 0.8))


def test_targets_must_be_classes_or_probabilities() -> None:
    given_ = output()
    with pytest.raises(ValueError, match=r"compares probabilities of classes.*use loss_sum"):
        SelfDistillation()(given_, torch.randn(2, 3), 1.0, F.mse_loss)
    assert SelfDistillation()(given_, torch.randn(2, 3).double().softmax(1), 1.0).isfinite()


@pytest.mark.parametrize(
    ("options", "said"), [({"share": -0.1}, "share"), ({"temperature": 0.0}, "temperature"), ({"share": 2.0}, "0 to 1")]
)
def test_bad_parameters(options: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SelfDistillation(**options)
