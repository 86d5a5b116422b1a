"""From labelled recordings to the parts of a set."""

from pathlib import Path

import numpy as np

from ..config import DataConfig
from ..counter_random import Stream
from ..source import TEST_FRACTION, Source
from ..split import stratified_folds, stratified_split
from .images import EventImages

# Counts as they are: the first layer's normalisation scales them, and a pixel without events stays 0.
MEAN, STD = (0.0, 0.0), (1.0, 1.0)


def event_source(
    train: EventImages,
    test: EventImages | None,
    class_names: list[str],
    config: DataConfig,
    validation: EventImages | None = None,
    test_fraction: float = TEST_FRACTION,
) -> Source:
    """Make a source of a set's parts, dealing them out anew where the recipe asks for folds.

    Args:
        train: training recordings, or all.
        test: test recordings; None: a seeded, stratified ``test_fraction`` of ``train``.
        class_names: by label.
        config: ``seed`` and ``events.folds``.
        validation: the set's own, if it has any.
        test_fraction: see ``test``.

    Raises:
        ValueError: a class has too few recordings to be dealt out.
    """
    folds = config.events.folds
    if folds:
        joined = train if test is None else train.joined(test)
        part = stratified_folds(joined.labels.numpy(), folds, config.seed, Stream.FOLDS, class_names)
        kept, held = np.flatnonzero(part != config.events.fold), np.flatnonzero(part == config.events.fold)
        train, test = joined.subset(kept), joined.subset(held)
    elif test is None:
        labels = train.labels.numpy()
        kept, held = stratified_split(labels, test_fraction, config.seed, Stream.TEST_SPLIT, class_names)
        train, test = train.subset(kept), train.subset(held)
    return Source(train, test, class_names, validation, MEAN, STD)


def data_root(config: DataConfig) -> Path:
    """Return the folder or file that holds the set."""
    return Path(str(config.root)).expanduser()
