import pytest
from hypothesis import given
from hypothesis import strategies as st

from shortcut_snn.data.loading import SeededSampler


def order(sampler: SeededSampler, epoch: int) -> list[int]:
    sampler.set_epoch(epoch)
    pairs = list(sampler)
    assert {at for at, _ in pairs} <= {0 if sampler.seed is None else epoch}
    assert len(pairs) == len(sampler)
    return [index for _, index in pairs]


def test_an_order_depends_on_seed_and_epoch_alone() -> None:
    sampler = SeededSampler(100, 5)
    first = order(sampler, 0)
    assert sorted(first) == list(range(100))
    assert order(sampler, 1) != first
    assert order(sampler, 0) == first
    assert order(SeededSampler(100, 5), 0) == first
    assert order(SeededSampler(100, 6), 0) != first


def test_the_order_is_the_same_for_ever() -> None:
    assert order(SeededSampler(1000, 0), 3)[:8] == [26, 828, 725, 554, 727, 519, 883, 481]


@given(st.integers(0, 60), st.integers(1, 9), st.integers(0, 5))
def test_processes_share_an_epoch(length: int, world: int, epoch: int) -> None:
    whole = order(SeededSampler(length, 1), epoch)
    even = [order(SeededSampler(length, 1, rank, world), epoch) for rank in range(world)]
    assert len({len(part) for part in even}) == 1
    assert [index for turn in zip(*even, strict=True) for index in turn][:length] == whole
    exact = [order(SeededSampler(length, None, rank, world), epoch) for rank in range(world)]
    assert sorted(index for part in exact for index in part) == list(range(length))


def test_a_rank_outside_the_world_is_refused() -> None:
    with pytest.raises(ValueError, match="rank must be 0 to 1 for 2 processes, got 2"):
        SeededSampler(10, 0, rank=2, world=2)
