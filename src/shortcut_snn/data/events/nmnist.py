"""N-MNIST in its official layout: ``Train`` and ``Test``, each of class folders of ``.bin`` files."""

import warnings

from ..class_folders import check_same, class_names
from ..config import DataConfig
from ..source import Source
from .download import find_or_download
from .folder import read_part
from .images import FrameMaker
from .parts import data_root, event_source

SENSOR = (34, 34)
_RECORDINGS = {"Train": 60_000, "Test": 10_000}


def read_nmnist(config: DataConfig, time_steps: int) -> Source:
    """Read N-MNIST from ``config.root``, which holds its Train and Test, or NMNIST with these.

    Raises:
        FileNotFoundError: it is not there and ``download`` is false.
        ValueError: its classes do not fit, or the download failed.
    """
    base = find_or_download(data_root(config), "nmnist", ("NMNIST", "."), ("Train", "Test"), config.download)
    names = class_names(base / "Train")
    check_same(base, names, "Test", "Train")
    maker = FrameMaker.of(config.events, SENSOR, time_steps)
    train, test = (read_part(base, base / part, names, {".bin"}, maker) for part in _RECORDINGS)
    for (part, count), images in zip(_RECORDINGS.items(), (train, test), strict=True):
        if len(images) != count:
            warnings.warn(f"{base / part} has {len(images):,} recordings of N-MNIST's {count:,}", stacklevel=2)
    return event_source(train, test, names, config)
