"""CIFAR10-DVS: ten class folders of the authors' ``.aedat`` files, or of ``.aedat4`` files converted from them."""

import warnings
from dataclasses import dataclass
from typing import ClassVar

from ... import components
from ..images.augmentation import Flip, Roll
from ..images.image_set import Source
from .event_set import PublicEventSet, RemoteArchive, read_part

SENSOR = (128, 128)
_RECORDINGS = 10_000


@components.data("cifar10dvs")
@dataclass(frozen=True)
class CIFAR10DVS(PublicEventSet):
    """CIFAR10-DVS: 10,000 recordings of 128x128 pixels, of 10 classes.

    Li et al., "CIFAR10-DVS: An Event-Stream Dataset for Object Classification", 2017. The seeded, stratified split has
    900 and 100 recordings of each class, chosen by their positions in the sorted list of names, the same on every
    machine.

    Args:
        root: the folder that holds its class folders, or CIFAR10DVS with these, or will with download.

    Example:
        >>> CIFAR10DVS("data", size=48).augmentations
        (Flip(alternating=False), Roll(pixels=5))
    """

    default_augment: ClassVar = (Flip(alternating=False), Roll())
    # 1,000 of its 10,000 recordings, as in the paper.
    test_fraction: ClassVar[float] = 0.1
    root_is: ClassVar = "folder that holds (or, with data.download=true, will hold) its class folders"
    folder: ClassVar = "CIFAR10DVS"
    content: ClassVar = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    archives: ClassVar = (
        RemoteArchive("https://figshare.com/ndownloader/files/38023437", "set.zip", "ce3a4a0682dc0943703bd8f749a7701c"),
    )

    def read(self, time_steps: int) -> Source:
        """List the recordings; see :meth:`.EventSet.read`."""
        base, classes = self.find(), list(self.content)
        images = read_part(base, base, classes, {".aedat", ".aedat4"}, self.maker(SENSOR, time_steps, turned=True))
        if len(images) != _RECORDINGS:
            warnings.warn(f"{base} has {len(images):,} recordings of CIFAR10-DVS's {_RECORDINGS:,}", stacklevel=2)
        return Source(images, None, classes)
