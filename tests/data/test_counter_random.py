import numpy as np

from shortcut_snn.data.counter_random import Stream, below, permutation, random_bits


def test_bits_are_splitmix64s() -> None:
    # The published first outputs of SplitMix64 from seed 0.
    assert random_bits([0, 1, 2]).tolist() == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


def test_counters_broadcast_and_do_not_commute() -> None:
    grid = random_bits(7, np.arange(3)[:, None], np.arange(4))
    assert grid.shape == (3, 4)
    assert grid[2, 1] == random_bits(7, 2, 1)[0]
    assert grid[1, 2] != grid[2, 1]
    assert len(np.unique(random_bits(np.arange(300)[:, None], np.arange(300)))) == 90_000


def test_below_is_in_range_and_even() -> None:
    draws = below(random_bits(1, np.arange(90_000)), 9)
    counts = np.bincount(draws, minlength=9)
    assert len(counts) == 9
    assert np.abs(counts - 10_000).max() < 5 * np.sqrt(10_000)


def test_streams_of_one_seed_differ() -> None:
    orders = {tuple(permutation(50, 0, stream, 0).tolist()) for stream in Stream}
    assert len(orders) == len(Stream)
