"""CIFAR10-DVS: ten class folders, of its authors' ``.aedat`` files or of tonic's ``.aedat4``."""

import warnings

from ..config import DataConfig
from ..source import Source
from .download import find_or_download
from .folder import read_part
from .images import FrameMaker
from .parts import data_root, event_source

SENSOR = (128, 128)
TEST_FRACTION = 0.1
"""The set has no test part of its own: 1,000 of its 10,000 recordings are held out, as the paper does it."""
_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_RECORDINGS = 10_000


def read_cifar10dvs(config: DataConfig, time_steps: int) -> Source:
    """Read CIFAR10-DVS from ``config.root``, which holds its class folders, or CIFAR10DVS with these.

    The split is seeded and stratified: 900 and 100 recordings of each class, by their place among the class's names in
    order, so it is the same on every machine.

    Raises:
        FileNotFoundError: it is not there and ``download`` is false.
        ValueError: a recording is there twice, or the download failed.
    """
    base = find_or_download(data_root(config), "cifar10dvs", ("CIFAR10DVS", "."), _CLASSES, config.download)
    maker = FrameMaker.of(config.events, SENSOR, time_steps)
    images = read_part(base, base, list(_CLASSES), {".aedat", ".aedat4"}, maker)
    if len(images) != _RECORDINGS:
        warnings.warn(f"{base} has {len(images):,} recordings of CIFAR10-DVS's {_RECORDINGS:,}", stacklevel=2)
    return event_source(images, None, list(_CLASSES), config, test_fraction=TEST_FRACTION)
