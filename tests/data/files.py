"""Small data sets on disk, in the layouts that users have, made of real images where there are any."""

import hashlib
import io
import pickle
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision import datasets

ARCHIVE = Path(__file__).parents[2].parent / "shared" / "data" / "cifar10_jpegs.npz"
"""CIFAR-10 as JPEG files, classes interleaved; expected next to the repository."""

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def colour_images(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images uint8 [count, 32, 32, 3] and labels 0, 1, ..., 9, 0, ...: real ones if the archive is there."""
    labels = np.arange(count) % 10
    if not ARCHIVE.is_file():
        return _smooth_images(count), labels
    with np.load(ARCHIVE, allow_pickle=False) as archive:
        offsets = archive["off_train"][: count + 1]
        files = archive["jpeg_train"][: offsets[-1]].tobytes()
        assert (archive["y_train"][:count] == labels).all()
    images = [Image.open(io.BytesIO(files[a:b])) for a, b in pairwise(offsets)]
    return np.stack([np.asarray(image) for image in images]), labels


def _smooth_images(count: int) -> np.ndarray:
    """Return random colours that change as slowly as a photograph's: JPEG keeps no noise."""
    colours = np.random.default_rng(0).integers(0, 256, (count, 4, 4, 3)).astype(np.uint8)
    return np.stack(
        [np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.BICUBIC)) for image in colours]
    )


def write_cifar10(root: Path, images: np.ndarray, labels: np.ndarray, per_batch: int) -> Path:
    """Write CIFAR-10's files: five training batches and a test batch of ``per_batch`` images each."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for number, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        part = slice(number * per_batch, (number + 1) * per_batch)
        _write_pickle(folder / name, {"labels": labels[part].tolist(), "data": _flat(images[part])})
    _write_pickle(folder / "batches.meta", {"label_names": NAMES})
    return folder


def write_cifar100(root: Path, images: np.ndarray, labels: np.ndarray, tests: int) -> Path:
    """Write CIFAR-100's three files; the last ``tests`` images are the test set."""
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    for name, part in (("train", slice(0, len(images) - tests)), ("test", slice(len(images) - tests, None))):
        _write_pickle(folder / name, {"fine_labels": labels[part].tolist(), "data": _flat(images[part])})
    _write_pickle(folder / "meta", {"fine_label_names": [f"fine_{i}" for i in range(100)]})
    return folder


def make_official(patch: pytest.MonkeyPatch, base: type[datasets.CIFAR10], folder: Path) -> None:
    """Make torchvision take the files in ``folder`` for the official ones."""
    for part in ("train_list", "test_list"):
        patch.setattr(base, part, [[name, md5(folder / name)] for name, _ in getattr(base, part)])
    patch.setattr(base, "meta", {**base.meta, "md5": md5(folder / base.meta["filename"])})


def md5(path: Path) -> str:
    """Return a file's checksum."""
    return hashlib.md5(path.read_bytes()).hexdigest()


def write_folder(root: Path, images: np.ndarray, labels: np.ndarray, names: list[str], kinds: tuple[str, ...]) -> None:
    """Write images into class folders, one file each, the kinds (``png``, ``jpg``, ...) in turn."""
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = root / names[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{index:04d}.{kinds[index % len(kinds)]}")


def write_npz(path: Path, **arrays: np.ndarray) -> Path:
    """Write an archive of plain arrays."""
    with path.open("wb") as file:
        np.savez(file, **arrays)
    return path


def _write_pickle(path: Path, content: object) -> None:
    path.write_bytes(pickle.dumps(content))


def _flat(images: np.ndarray) -> np.ndarray:
    return images.transpose(0, 3, 1, 2).reshape(len(images), 3072)
