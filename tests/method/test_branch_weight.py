"""Branch weights: lambda over a training run."""

import pytest

from shortcut_snn.method import Constant, CosineDecay, LinearDecay
from shortcut_snn.method.branch_weight import BranchWeight


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        # At steps 0, 25, 50, 75 and 100 of 100, and after the end.
        (Constant(), [1, 1, 1, 1, 1, 1]),
        (Constant(0.0), [0, 0, 0, 0, 0, 0]),
        (LinearDecay(), [0.25, 0.1875, 0.125, 0.0625, 0, 0]),
        (LinearDecay(2.0), [2, 1.5, 1, 0.5, 0, 0]),
        (CosineDecay(1.0), [1, 0.8535534, 0.5, 0.1464466, 0, 0]),
    ],
    ids=str,
)
def test_lambda_at_the_start_the_middle_the_end_and_beyond(schedule: BranchWeight, values: list[float]) -> None:
    assert [schedule(step, 100) for step in (0, 25, 50, 75, 100, 1000)] == pytest.approx(values, abs=1e-7)
