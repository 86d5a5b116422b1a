"""What a reader returns: a set's own parts, before limits and the validation split."""

from dataclasses import dataclass

from .counter_random import Stream
from .images import Images
from .split import stratified_split

TEST_FRACTION = 0.2
"""Part that becomes the test set where a set has none."""


@dataclass(frozen=True)
class Source:
    """The parts of a data set as its files hold them.

    ``mean`` and ``std`` are per channel on the 0..1 scale, None where they have to be computed, from
    ``statistics_samples`` images (None: all).
    """

    train: Images
    test: Images
    class_names: list[str]
    validation: Images | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    statistics_samples: int | None = None


def held_out_test(images: Images, class_names: list[str], seed: int, samples: int | None = None) -> Source:
    """Make a source of a set without a test part: a seeded, stratified 20 % become one."""
    kept, held = stratified_split(images.labels.numpy(), TEST_FRACTION, seed, Stream.TEST_SPLIT, class_names)
    return Source(images.subset(kept), images.subset(held), class_names, statistics_samples=samples)
