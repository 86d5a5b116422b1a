"""Published sets of images: CIFAR-10 and CIFAR-100 in their official Python layout, and scikit-learn's digits.

The official files of CIFAR are pickles, and unpickling can run code. torchvision loads a file only if it has the
official checksum, so no other file is ever unpickled.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from ... import components
from ..reading import one_line
from .augmentation import Crop, Flip
from .image_set import ImageSet, Source, StoredSet
from .images import ArrayImages


@components.data("cifar10")
@dataclass(frozen=True)
class CIFAR10(StoredSet):
    """CIFAR-10: 50,000 images for training and 10,000 for testing, 32x32, of 10 classes.

    Args:
        root: the folder that holds cifar-10-batches-py, or will with download.
        download: download the set into root if it is missing.

    Example:
        >>> CIFAR10("data", download=True).augmentations
        (Crop(padding=0.125), Flip(alternating=False))
    """

    download: bool = False

    default_augment: ClassVar = (Crop(), Flip())
    root_is: ClassVar = "folder that holds (or, with data.download=true, will hold) cifar-10-batches-py"
    torchvision_class: ClassVar = "CIFAR10"
    # Measured over the official training images.
    mean: ClassVar[tuple[float, ...]] = (0.4914, 0.4822, 0.4465)
    std: ClassVar[tuple[float, ...]] = (0.2470, 0.2435, 0.2616)

    def read(self) -> Source:
        """Read the official files, after downloading them if that is allowed."""
        # torchvision takes a second to import, and most uses of this package do not need it.
        from torchvision import datasets

        official: Any = getattr(datasets, self.torchvision_class)
        try:
            train, test = (official(self.path, train=part, download=self.download) for part in (True, False))
        # OSError for the network and the disk, RuntimeError for files that are missing or not the official ones.
        except (OSError, RuntimeError) as error:
            if self.download:
                raise ValueError(f"{self.name} could not be downloaded to {self.path}: {one_line(error)}") from error
            folder = self.path / official.base_folder
            fault = "lacks an official file, or one is damaged" if folder.exists() else "does not exist"
            raise ValueError(
                f"data.root: {folder} {fault}; set "
                f"data.download=true to download {self.name}, or point data.root at the folder that holds it"
            ) from error
        return Source(_to_images(train), _to_images(test), list(train.classes), mean=self.mean, std=self.std)


@components.data("cifar100")
@dataclass(frozen=True)
class CIFAR100(CIFAR10):
    """CIFAR-100: as CIFAR-10, but of 100 classes.

    Args:
        root: the folder that holds cifar-100-python, or will with download.

    Example:
        >>> CIFAR100("data", validation=0, augment=("crop", "flip", "cutout")).name
        'cifar100'
    """

    root_is: ClassVar = "folder that holds (or, with data.download=true, will hold) cifar-100-python"
    torchvision_class: ClassVar = "CIFAR100"
    mean: ClassVar[tuple[float, ...]] = (0.5071, 0.4865, 0.4409)
    std: ClassVar[tuple[float, ...]] = (0.2673, 0.2564, 0.2762)


def _to_images(part: Any) -> ArrayImages:
    return ArrayImages(torch.from_numpy(part.data).permute(0, 3, 1, 2), torch.tensor(part.targets))


@components.data("digits")
@dataclass(frozen=True)
class Digits(ImageSet):
    """scikit-learn's 1,797 digits, 8x8, of which a seeded, stratified 20 % become the test set.

    Example:
        >>> data = Digits(validation=0.1).load()
        >>> len(data.train), len(data.validation), len(data.test)
        (1293, 145, 359)
        >>> data.description["image_size"]
        [8, 8]
    """

    default_augment: ClassVar = (Crop(),)

    def read(self) -> Source:
        """Read the digits."""
        from sklearn.datasets import load_digits

        digits = load_digits()
        pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
        images = ArrayImages(torch.from_numpy(pixels).unsqueeze(1), torch.from_numpy(digits.target))
        return Source(images, None, [str(digit) for digit in range(10)])
