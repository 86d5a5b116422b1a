"""Random numbers as a pure function of counters, without a state to save, restore or share; and splits made of them.

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


def stratified_split(
    labels: NDArray[np.int64], fraction: float, seed: int, stream: Stream, class_names: list[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the positions kept, and those held out: ``fraction`` of every class, rounded, but at least one sample."""
    held_out = np.zeros(len(labels), bool)
    keys = random_bits(seed, stream, np.arange(len(labels)))
    for label, name in enumerate(class_names):
        members = np.flatnonzero(labels == label)
        count = max(1, int(fraction * len(members) + 0.5))
        if count >= len(members):
            is_test = stream == Stream.TEST_SPLIT
            part, remedy = ("test", "add some") if is_test else ("validation", "add some, or set data.validation to 0")
            raise ValueError(
                f"class {name!r} has too few samples ({len(members)}) to hold out {fraction:g} of them as {part} data: "
                f"{remedy}"
            )
        held_out[members[np.argsort(keys[members], kind="stable")[:count]]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def stratified_folds(
    labels: NDArray[np.int64], folds: int, seed: int, stream: Stream, class_names: list[str]
) -> NDArray[np.int64]:
    """Return the fold of each sample; folds differ by at most one sample, in each class and in total."""
    for label, name in enumerate(class_names):
        members = int((labels == label).sum())
        if members < folds:
            raise ValueError(f"class {name!r} has too few samples ({members}) for {folds} folds")
    # Order by class, randomly within a class, and deal the samples out in turn.
    order = np.lexsort((random_bits(seed, stream, np.arange(len(labels))), labels))
    assignment = np.empty(len(labels), np.int64)
    assignment[order] = np.arange(len(labels)) % folds
    return assignment


def balanced_prefix(labels: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """Choose ``limit`` samples, the first of each class, as evenly over the classes as their sizes allow.

    Where classes are interleaved and ``limit`` is a multiple of their number, this is the plain prefix.
    """
    # A sample's turn is the number of samples of its class before it; the limit takes turn after turn.
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], labels[order], side="left")
    turn = np.empty(len(labels), np.int64)
    turn[order] = np.arange(len(labels)) - starts
    return np.sort(np.lexsort((labels, turn))[:limit])


def evenly_spaced(count: int, limit: int) -> list[int]:
    """Return at most ``limit`` of the positions 0 to ``count - 1``, evenly spaced."""
    return [round(position) for position in np.linspace(0, count - 1, min(count, limit)).tolist()]
