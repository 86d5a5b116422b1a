"""Branch weights: lambda over a training run."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shortcut_snn.method import Constant, CosineDecay, LinearDecay
from shortcut_snn.method.branch_weight import BranchWeight

initials = st.floats(0.0, 10.0)
totals = st.integers(1, 2000)
decays = st.one_of(initials.map(LinearDecay), initials.map(CosineDecay))


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


@given(schedule=decays, total=totals, data=st.data())
def test_a_decay_starts_at_initial_never_rises_and_ends_at_zero(
    schedule: LinearDecay | CosineDecay, total: int, data: st.DataObject
) -> None:
    steps = sorted(data.draw(st.lists(st.integers(0, 2 * total), max_size=20)))
    values = [schedule(step, total) for step in [0, *steps, total]]
    assert all(0 <= value <= schedule.initial for value in values)
    assert all(later <= earlier for earlier, later in itertools.pairwise(values[:-1]))
    assert values[-1] == 0
    assert values[0] == schedule.initial
