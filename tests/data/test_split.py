import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shortcut_snn.data.counter_random import Stream, balanced_prefix, stratified_folds, stratified_split

NAMES = [str(i) for i in range(10)]


def digest(indices: np.ndarray) -> str:
    return hashlib.sha256(indices.astype("<i8").tobytes()).hexdigest()[:16]


@given(st.integers(2, 60), st.floats(0.01, 0.9), st.integers(0, 2**40))
def test_a_split_is_stratified_and_disjoint(per_class: int, fraction: float, seed: int) -> None:
    labels = np.tile(np.arange(4), per_class)
    count = max(1, int(fraction * per_class + 0.5))
    if count == per_class:
        return
    kept, held = stratified_split(labels, fraction, seed, Stream.VALIDATION_SPLIT, NAMES[:4])
    assert sorted([*kept, *held]) == list(range(len(labels)))
    assert np.bincount(labels[held]).tolist() == [count] * 4
    assert (np.diff(kept) > 0).all()
    assert (np.diff(held) > 0).all()


@given(st.lists(st.integers(0, 2), min_size=6, max_size=80), st.integers(2, 6), st.integers(0, 2**40))
def test_folds_are_even_in_all_and_in_every_class(drawn: list[int], folds: int, seed: int) -> None:
    labels = np.array(drawn + [0, 1, 2] * folds)
    parts = stratified_folds(labels, folds, seed, Stream.FOLDS, NAMES[:3])
    for chosen in (labels >= 0, labels == 0, labels == 1, labels == 2):
        sizes = np.bincount(parts[chosen], minlength=folds)
        assert len(sizes) == folds
        assert sizes.max() - sizes.min() <= 1


def test_folds_are_the_same_for_ever() -> None:
    labels = np.arange(1000) % 10
    assert digest(stratified_folds(labels, 5, 0, Stream.FOLDS, NAMES)) == "f1f60d88e2e63b91"
    assert digest(stratified_folds(labels, 5, 1, Stream.FOLDS, NAMES)) != "f1f60d88e2e63b91"
    with pytest.raises(ValueError, match=r"class '3' has too few samples \(100\) for 101 folds|class '0' has too few"):
        stratified_folds(labels, 101, 0, Stream.FOLDS, NAMES)


def test_a_split_is_the_same_for_ever() -> None:
    # If these change, results of older runs cannot be compared with newer ones any more.
    labels = np.arange(1000) % 10
    kept, held = stratified_split(labels, 0.1, 0, Stream.VALIDATION_SPLIT, NAMES)
    assert (digest(kept), digest(held)) == ("146409882f4e202f", "d6ed0afae18579a4")
    assert held[:5].tolist() == [0, 4, 13, 18, 20]
    _, test = stratified_split(labels, 0.1, 0, Stream.TEST_SPLIT, NAMES)
    _, other = stratified_split(labels, 0.1, 1, Stream.VALIDATION_SPLIT, NAMES)
    assert len({digest(held), digest(test), digest(other)}) == 3


def test_a_class_too_small_to_split_is_named() -> None:
    with pytest.raises(
        ValueError, match=r"class '1' has too few samples \(1\) .* as validation .* data.validation to 0"
    ):
        stratified_split(np.array([0, 0, 1, 0]), 0.1, 0, Stream.VALIDATION_SPLIT, NAMES[:2])
    with pytest.raises(ValueError, match=r"class '0' has too few samples \(2\) .* as test data"):
        stratified_split(np.array([0, 0, 1, 1]), 0.9, 0, Stream.TEST_SPLIT, NAMES[:2])


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(1, 80))
def test_a_balanced_prefix_takes_the_first_of_each_class_evenly(classes: list[int], limit: int) -> None:
    labels = np.array(classes)
    chosen = balanced_prefix(labels, limit)
    assert len(chosen) == min(limit, len(labels))
    assert (np.diff(chosen) > 0).all()
    taken = np.bincount(labels[chosen], minlength=4)
    there = np.bincount(labels, minlength=4)
    for label in range(4):
        assert chosen[labels[chosen] == label].tolist() == np.flatnonzero(labels == label)[: taken[label]].tolist()
        # A class may lag only if it has run out.
        assert taken[label] >= min(there[label], taken.max() - 1)
