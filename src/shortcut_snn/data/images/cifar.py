"""CIFAR-10 and CIFAR-100 in their official Python layout.

The official files are pickles, and unpickling runs whatever code a file asks for. Here a file can ask for one thing,
ours; torchvision provides the addresses, the checksums and the download. So smaller files of the same layout are
read by the same code. A file that claims the official number of images must be the official file.
"""

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from ... import components
from ..download import Archive, download
from .augmentation import Crop, Flip
from .image_set import Source, StoredSet
from .images import ArrayImages

_SIDE = 32


@components.data("cifar10")
@dataclass(frozen=True)
class CIFAR10(StoredSet):
    """CIFAR-10: 50,000 images for training and 10,000 for testing, 32x32, of 10 classes.

    Args:
        root: the folder that holds cifar-10-batches-py, or will with download.
        download: fetch it into root if it is not there.

    Example:
        >>> CIFAR10("data", download=True).augmentations
        (Crop(padding=0.125), Flip())
    """

    download: bool = False

    default_augment: ClassVar = (Crop(), Flip())
    root_is: ClassVar = "folder that holds (or, with data.download=true, will hold) cifar-10-batches-py"
    labels_key: ClassVar = "labels"
    official_batch: ClassVar = 10_000
    """Images in an official training file; every test file has 10,000."""
    # Measured over the official training images.
    mean: ClassVar[tuple[float, ...]] = (0.4914, 0.4822, 0.4465)
    std: ClassVar[tuple[float, ...]] = (0.2470, 0.2435, 0.2616)

    @staticmethod
    def official() -> Any:
        """Return torchvision's class, which knows addresses, file names and checksums."""
        from torchvision.datasets import CIFAR10 as official

        return official

    def read(self) -> Source:
        """Read it from its folder, downloading it first if asked to.

        Raises:
            FileNotFoundError: files are missing and ``download`` is false.
            ValueError: a file is damaged or is not of the layout.
        """
        official = self.official()
        folder, meta = self.path / official.base_folder, official.meta
        files = [name for name, _ in (*official.train_list, *official.test_list)] + [meta["filename"]]
        if self.download and not all((folder / name).is_file() for name in files):
            archive = Archive(official.url, official.filename, official.tgz_md5)
            download(self.path, official.base_folder, [archive])
        missing = [name for name in files if not (folder / name).is_file()]
        if missing:
            raise FileNotFoundError(
                f"data.root: {folder / missing[0]} is missing; set data.download=true to download {self.name},"
                f" or point data.root at the folder that holds {official.base_folder}"
            )
        names = _read_dict(folder / meta["filename"]).get(meta["key"])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"{folder / meta['filename']} is not a CIFAR description: it has no list of {meta['key']}")
        train, test = (
            [self._read_batch(folder / file, md5, size, len(names)) for file, md5 in files_of_part]
            for files_of_part, size in ((official.train_list, self.official_batch), (official.test_list, 10_000))
        )
        return Source(_join(train), _join(test), names, mean=self.mean, std=self.std)

    def _read_batch(self, path: Path, md5: str, official: int, classes: int) -> ArrayImages:
        from torchvision.datasets.utils import check_integrity

        batch = _read_dict(path)
        pixels, labels = batch.get("data"), batch.get(self.labels_key)
        if not (isinstance(pixels, np.ndarray) and pixels.shape[1:] == (3 * _SIDE * _SIDE,)):
            raise ValueError(f"{path} is not a CIFAR batch: its 'data' is not uint8 [n, 3072]")
        if not (
            isinstance(labels, list)
            and len(labels) == len(pixels)
            and all(type(label) is int and 0 <= label < classes for label in labels)
        ):
            raise ValueError(
                f"{path} is not a CIFAR batch: its {self.labels_key!r} are not {len(pixels)} labels"
                f" from 0 to {classes - 1}"
            )
        if len(pixels) >= official and not check_integrity(path, md5):
            raise ValueError(
                f"{path} is damaged: its checksum is not the official one; delete it and download it again"
            )
        return ArrayImages(torch.from_numpy(pixels).view(-1, 3, _SIDE, _SIDE), torch.tensor(labels))


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
    labels_key: ClassVar = "fine_labels"
    official_batch: ClassVar = 50_000
    mean: ClassVar[tuple[float, ...]] = (0.5071, 0.4865, 0.4409)
    std: ClassVar[tuple[float, ...]] = (0.2673, 0.2564, 0.2762)

    @staticmethod
    def official() -> Any:
        """Return torchvision's class, which knows addresses, file names and checksums."""
        from torchvision.datasets import CIFAR100 as official

        return official


def _join(batches: list[ArrayImages]) -> ArrayImages:
    return ArrayImages(torch.cat([b.images for b in batches]), torch.cat([b.labels for b in batches]))


class _Numpy:
    """Stands for all that numpy's pickles name: numpy's own takes a file's word on what memory means."""

    def __init__(self, *given: Any) -> None:
        self.given = given
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def array(self) -> NDArray[np.uint8]:
        """Return what it stands for, if that is an array of bytes, row by row."""
        _, shape, kind, columns_first, content = self.state
        if kind.given[0] != "u1" or columns_first:
            raise pickle.UnpicklingError("it holds an array that is not uint8, row by row")
        # Python 2 had one type for text and bytes, and pickled the pixels as that.
        content = content.encode("latin1") if isinstance(content, str) else content
        return np.frombuffer(bytearray(content), np.uint8).reshape(shape)


_ALLOWED = frozenset(
    (
        ("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct"),
        ("numpy", "ndarray"), ("numpy", "dtype"),
    )
)  # fmt: skip


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return _Numpy


def _read_dict(path: Path) -> dict[Any, Any]:
    try:
        with path.open("rb") as file:
            content = _Unpickler(file, encoding="latin1").load()
        if not isinstance(content, dict):
            raise pickle.UnpicklingError("it holds no dictionary")
        return {key: value.array() if isinstance(value, _Numpy) else value for key, value in content.items()}
    # A damaged pickle can fail in any instruction, with whatever that instruction raises.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"{path} is cut short, damaged or not plain data ({reason.rstrip('.')}); delete it and download it again"
        ) from error
