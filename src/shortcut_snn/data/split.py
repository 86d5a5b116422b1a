"""Stratified splits and balanced subsets, chosen from the labels alone.

A split depends on (seed, stream, position) alone, so it is the same on every machine and in every version.
"""

import numpy as np
from numpy.typing import NDArray

from .counter_random import Stream, random_bits


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
