"""CIFAR-10 and CIFAR-100 in their official Python layout.

The official files are pickles, and unpickling runs whatever code a file asks for. So they are read by
:mod:`.safe_pickle`, which builds byte arrays, lists and strings and refuses the rest; torchvision provides the
addresses, the checksums and the download. Beyond being safe for any file, this lets smaller files of the same layout
be read by the same code. A file that claims the official number of images must be the official file.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision.datasets import CIFAR10, CIFAR100
from torchvision.datasets.utils import check_integrity, download_and_extract_archive

from .config import DataConfig
from .images import ArrayImages
from .safe_pickle import read_pickle
from .source import Source

_SIDE = 32


@dataclass(frozen=True)
class Layout:
    """Where a CIFAR's files are, what their keys are called and what their colours measure."""

    official: type[CIFAR10]
    labels_key: str
    batch: int
    """Images in an official training file; every test file has 10,000."""
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def folder(self) -> str:
        """Name of the folder the official archive unpacks to."""
        return str(self.official.base_folder)


# Measured over the official training images.
LAYOUTS = {
    "cifar10": Layout(CIFAR10, "labels", 10_000, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": Layout(CIFAR100, "fine_labels", 50_000, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
}


def read_cifar(config: DataConfig) -> Source:
    """Read CIFAR-10 or CIFAR-100 from ``config.root``, downloading it first if asked to.

    Raises:
        FileNotFoundError: files are missing and ``download`` is false.
        ValueError: a file is damaged or is not of the layout.
    """
    layout = LAYOUTS[config.name]
    root = Path(str(config.root)).expanduser()
    folder = root / layout.folder
    if config.download:
        _download(layout, root)
    _check_present(layout, folder, config.name)
    names = _read_names(layout, folder)
    train = [_read_batch(folder / file, md5, layout, layout.batch, names) for file, md5 in layout.official.train_list]
    test = [_read_batch(folder / file, md5, layout, 10_000, names) for file, md5 in layout.official.test_list]
    return Source(_join(train), _join(test), names, mean=layout.mean, std=layout.std)


def _files(layout: Layout) -> list[tuple[str, str]]:
    official = layout.official
    meta = (official.meta["filename"], official.meta["md5"])
    return [(name, md5) for name, md5 in [*official.train_list, *official.test_list, meta]]


def _check_present(layout: Layout, folder: Path, name: str) -> None:
    missing = [file for file, _ in _files(layout) if not (folder / file).is_file()]
    if missing:
        raise FileNotFoundError(
            f"data.root: {folder / missing[0]} is missing; set data.download=true to download {name},"
            f" or point data.root at the folder that holds {layout.folder}"
        )


def _download(layout: Layout, root: Path) -> None:
    folder = root / layout.folder
    if all((folder / file).is_file() for file, _ in _files(layout)):
        return
    root.mkdir(parents=True, exist_ok=True)
    # Unpacked elsewhere and renamed, so that an interrupted download leaves nothing that looks like a data set.
    with tempfile.TemporaryDirectory(dir=root, prefix=".download-") as scratch:
        try:
            download_and_extract_archive(
                layout.official.url, scratch, filename=layout.official.filename, md5=layout.official.tgz_md5
            )
        except (OSError, RuntimeError) as error:
            raise ValueError(f"{layout.official.url} could not be downloaded to {root}: {error}") from error
        if folder.exists():
            folder.rename(Path(scratch) / "incomplete")
        (Path(scratch) / layout.folder).rename(folder)


def _read_names(layout: Layout, folder: Path) -> list[str]:
    path, key = folder / layout.official.meta["filename"], layout.official.meta["key"]
    names = _read_dict(path).get(key)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{path} is not a CIFAR description: it has no list of {key}")
    return names


def _read_batch(path: Path, md5: str, layout: Layout, official: int, names: list[str]) -> ArrayImages:
    batch = _read_dict(path)
    pixels, labels = batch.get("data"), batch.get(layout.labels_key)
    if not (isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8 and pixels.shape[1:] == (3 * _SIDE * _SIDE,)):
        raise ValueError(f"{path} is not a CIFAR batch: its 'data' is not uint8 [n, 3072]")
    if not (isinstance(labels, list) and len(labels) == len(pixels) and set(labels) <= set(range(len(names)))):
        raise ValueError(
            f"{path} is not a CIFAR batch: its {layout.labels_key!r} are not {len(pixels)} labels"
            f" from 0 to {len(names) - 1}"
        )
    if len(pixels) >= official and not check_integrity(path, md5):
        raise ValueError(f"{path} is damaged: its checksum is not the official one; delete it and download it again")
    return ArrayImages(torch.from_numpy(pixels).view(-1, 3, _SIDE, _SIDE), torch.tensor(labels))


def _read_dict(path: Path) -> dict[str, Any]:
    try:
        return read_pickle(path)
    except ValueError as error:
        raise ValueError(f"{error}; delete it and download it again") from error


def _join(batches: list[ArrayImages]) -> ArrayImages:
    return ArrayImages(torch.cat([b.images for b in batches]), torch.cat([b.labels for b in batches]))
