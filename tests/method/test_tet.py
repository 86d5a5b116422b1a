"""TET against its paper's sums, worked out step by step and class by class."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from shortcut_snn import TET, ShortcutOutput

from .toys import smooth

# Two steps, one image, two classes; label 0. The cross-entropy of logits (a, b) is log(1 + exp(b - a)).
LOGITS = torch.tensor([[[2.0, 0.0]], [[0.0, 1.0]]])
LABEL = torch.tensor([0])


@given(
    steps=st.integers(1, 5),
    batch=st.integers(1, 4),
    weight=st.floats(0, 1),
    target=st.floats(-2, 2),
    smoothing=st.floats(0, 0.5),
    seed=st.integers(0, 2**31),
)
def test_is_the_mean_of_the_losses_of_the_steps(
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


def test_gradient_of_every_step_equals_the_numerical_one() -> None:
    logits = torch.randn(3, 2, 4, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([1, 3])
    assert torch.autograd.gradcheck(lambda x: TET(0.2)(ShortcutOutput(x), labels, 0.0), logits)
    # Of the loss of the mean, every step has the same gradient; TET's differ.
    (gradient,) = torch.autograd.grad(TET(0.0)(ShortcutOutput(logits), labels, 0.0), logits)
    error = (logits.softmax(2) - F.one_hot(labels, 4)) / (3 * 2)
    torch.testing.assert_close(gradient, error)


def test_logits_without_time_are_refused() -> None:
    with pytest.raises(ValueError, match=r"every time step, \[T, N, classes\], got shape \(1, 2\).*readout='sequence'"):
        TET()(ShortcutOutput(LOGITS[0]), LABEL, 0.0)


def test_regression_is_for_a_weight_of_0_alone() -> None:
    outputs, target = ShortcutOutput(torch.randn(3, 2, 4)), torch.randn(2, 4)
    expected = (outputs.main - target).square().mean()
    torch.testing.assert_close(TET(0.0)(outputs, target, 0.0, F.mse_loss), expected)
    with pytest.raises(ValueError, match="not classes: set its weight to 0"):
        TET()(outputs, target, 0.0, F.mse_loss)


@pytest.mark.parametrize(("options", "said"), [({"weight": 1.5}, "from 0 to 1"), ({"target": math.nan}, "finite")])
def test_bad_parameters(options: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        TET(**options)
