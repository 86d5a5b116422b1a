"""Random numbers as a pure function of counters, without a state to save, restore or share.

SplitMix64 in numpy (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014) gives the same bits
on every machine and with every version of every library. A split, the order of an epoch and the crop of one image each
ask for the bits of their own counters, such as (seed, epoch, index).
"""

from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_A = np.uint64(0xBF58476D1CE4E5B9)
_MIX_B = np.uint64(0x94D049BB133111EB)


class Stream(IntEnum):
    """A Stream names a use of random numbers; uses of one seed are independent. Never change a number."""

    TEST_SPLIT = 1
    VALIDATION_SPLIT = 2
    ORDER = 3
    AUGMENT = 4
    FOLDS = 5
    ITEM = 6
    SAMPLE = 7


def random_bits(*counters: ArrayLike) -> NDArray[np.uint64]:
    """Return 64 random bits for every tuple of counters, which are broadcast to at least one axis."""
    bits = np.zeros(1, np.uint64)
    for counter in counters:
        # Arrays, never scalars: numpy warns of the intended overflow of a scalar.
        bits = bits + (np.atleast_1d(np.asarray(counter)).astype(np.uint64) + np.uint64(1)) * _GOLDEN
        bits = (bits ^ (bits >> np.uint64(30))) * _MIX_A
        bits = (bits ^ (bits >> np.uint64(27))) * _MIX_B
        bits = bits ^ (bits >> np.uint64(31))
    return bits


def below(bits: NDArray[np.uint64], limit: int) -> NDArray[np.int64]:
    """Map bits to integers from 0 to ``limit - 1``, uniform to within ``limit / 2**32``."""
    return (((bits >> np.uint64(32)) * np.uint64(limit)) >> np.uint64(32)).astype(np.int64)


def uniform(bits: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Map bits to floats in [0, 1)."""
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def permutation(length: int, *counters: int) -> NDArray[np.int64]:
    """Return the permutation of ``range(length)`` that belongs to the counters."""
    return np.argsort(random_bits(*counters, np.arange(length)), kind="stable")
