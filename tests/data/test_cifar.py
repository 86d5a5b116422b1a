import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torchvision import datasets

from shortcut_snn.data import CIFAR10, CIFAR100

from .files import NAMES, make_official, md5, write_cifar10, write_cifar100
from .server import served

Colour = tuple[np.ndarray, np.ndarray]


def config(root: Path, **fields: Any) -> CIFAR10:
    return CIFAR10(root, **{"validation": 0, **fields})


@pytest.fixture
def cifar10(colour: Colour, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = write_cifar10(tmp_path, *colour, 20)
    make_official(monkeypatch, datasets.CIFAR10, folder)
    return folder


def test_cifar10(colour: Colour, cifar10: Path) -> None:
    images, labels = colour
    data = config(cifar10.parent).load()
    assert (len(data.train), len(data.test), data.classes) == (100, 20, NAMES)
    assert (data.train.fetch(range(100)).numpy() == images[:100].transpose(0, 3, 1, 2)).all()
    assert (data.test.fetch(range(20)).numpy() == images[100:120].transpose(0, 3, 1, 2)).all()
    assert data.train.labels.tolist() == labels[:100].tolist()
    assert (data.train.shape, data.mean[0]) == ((3, 32, 32), 0.4914)


def test_cifar100(colour: Colour, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = colour[0][:300], np.arange(300) % 100
    make_official(monkeypatch, datasets.CIFAR100, write_cifar100(tmp_path, images, labels, 100))
    data = CIFAR100(tmp_path, validation=0.5).load()
    assert (len(data.train), len(data.validation), len(data.test)) == (100, 100, 100)
    assert data.classes[99] == "fine_99"
    assert (data.test.fetch(range(100)).numpy() == images[200:].transpose(0, 3, 1, 2)).all()
    assert data.mean[0] == 0.5071


@pytest.mark.parametrize("name", ["data_batch_2", "test_batch", "batches.meta"])
def test_files_that_are_missing_or_not_official_are_not_loaded(cifar10: Path, name: str) -> None:
    (cifar10 / name).write_bytes(b"cos\nsystem\n(S'touch owned'\ntR.")
    with pytest.raises(ValueError, match=r"cifar-10-batches-py .*data\.download"):
        config(cifar10.parent).load()
    (cifar10 / name).unlink()
    with pytest.raises(ValueError, match=r"cifar-10-batches-py .*data\.download"):
        config(cifar10.parent).load()


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cifar-10-batches-py does not exist"):
        config(tmp_path).load()


@pytest.fixture
def archive(cifar10: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A small CIFAR-10 to download, packed as the official one is, from a server on this machine."""
    path = cifar10.parent / datasets.CIFAR10.filename
    with tarfile.open(path, "w:gz") as file:
        file.add(cifar10, cifar10.name)
    with served(path.parent) as address:
        monkeypatch.setattr(datasets.CIFAR10, "url", f"{address}/{path.name}")
        monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", md5(path))
        yield path


def test_download(archive: Path, tmp_path: Path) -> None:
    root = tmp_path / "new" / "folder"
    assert len(config(root, download=True).load().train) == 100
    (root / "cifar-10-batches-py" / "data_batch_5").unlink()
    assert len(config(root, download=True).load().train) == 100
    archive.unlink()
    assert len(config(root, download=True).load().train) == 100
    with pytest.raises(ValueError, match=r"could not be downloaded .*404"):
        config(tmp_path / "other", download=True).load()
