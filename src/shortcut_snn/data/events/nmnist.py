"""N-MNIST in its official layout: ``Train`` and ``Test``, each of class folders of ``.bin`` files."""

import warnings
from dataclasses import dataclass
from typing import ClassVar

from ... import components
from ..class_folders import check_same_classes, class_names
from ..images.augmentation import Crop
from ..images.image_set import Source
from .event_set import PublicEventSet, RemoteArchive, read_part

SENSOR = (34, 34)
_RECORDINGS = {"Train": 60_000, "Test": 10_000}
_FILES = "https://data.mendeley.com/public-files/datasets/468j46mzdv/files"


@components.data("nmnist")
@dataclass(frozen=True)
class NMNIST(PublicEventSet):
    """N-MNIST: 60,000 recordings for training and 10,000 for testing, 34x34 pixels, of 10 digits.

    Orchard et al., "Converting Static Image Datasets to Spiking Neuromorphic Datasets Using Saccades", 2015.

    Args:
        root: the folder that holds its Train and Test, or NMNIST with these, or will with download.

    Example:
        >>> NMNIST("data", size=17, folds=5, fold=1).augmentations
        (Crop(padding=0.125),)
    """

    # A digit fills its frame, so a cyclic shift would cut it in two.
    default_augment: ClassVar = (Crop(),)
    root_is: ClassVar = "folder that holds (or, with data.download=true, will hold) Train and Test"
    folder: ClassVar = "NMNIST"
    content: ClassVar = ("Train", "Test")
    archives: ClassVar = (
        RemoteArchive(
            f"{_FILES}/39c25547-014b-4137-a934-9d29fa53c7a0/file_downloaded",
            "train.zip",
            "20959b8e626244a1b502305a9e6e2031",
        ),
        RemoteArchive(
            f"{_FILES}/05a4d654-7e03-4c15-bdfa-9bb2bcbea494/file_downloaded",
            "test.zip",
            "69ca8762b2fe404d9b9bad1103e97832",
        ),
    )

    def read(self, time_steps: int) -> Source:
        """List the recordings; see :meth:`.EventSet.read`."""
        base = self.find()
        check_same_classes(base, "Train", "Test")
        classes, maker = class_names(base / "Train"), self.maker(SENSOR, time_steps)
        train, test = (read_part(base, base / part, classes, {".bin"}, maker) for part in _RECORDINGS)
        for (part, count), images in zip(_RECORDINGS.items(), (train, test), strict=True):
            if len(images) != count:
                warnings.warn(f"{base / part} has {len(images):,} recordings of N-MNIST's {count:,}", stacklevel=2)
        return Source(train, test, classes)
