"""Small data sets on disk, in the layouts that users have, made of real images where there are any."""

import io
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

ARCHIVE = Path(__file__).parents[2].parent / "shared" / "data" / "cifar10_jpegs.npz"
"""CIFAR-10 as JPEG files, classes interleaved; looked for beside the repository."""

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
    """Write five training batches and a test batch of ``per_batch`` images each, as Python 2 wrote the real ones."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for number, name in enumerate(["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"]):
        _write_batch10(folder / name, images, labels, slice(number * per_batch, (number + 1) * per_batch))
    _write_batch10(folder / "test_batch", images, labels, slice(5 * per_batch, 6 * per_batch))
    meta = {"num_cases_per_batch": per_batch, "label_names": NAMES, "num_vis": 3072}
    (folder / "batches.meta").write_bytes(python2_pickle(meta))
    return folder


def write_cifar100(root: Path, images: np.ndarray, labels: np.ndarray, tests: int) -> Path:
    """Write CIFAR-100's three files; the last ``tests`` images are the test set."""
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    for name, part in (("train", slice(0, len(images) - tests)), ("test", slice(len(images) - tests, None))):
        content = {
            "filenames": [f"image_{i}.png" for i in range(len(labels[part]))],
            "batch_label": f"{name} batch 1 of 1",
            "fine_labels": labels[part].tolist(),
            "coarse_labels": (labels[part] // 5).tolist(),
            "data": _flat(images[part]),
        }
        (folder / name).write_bytes(python2_pickle(content))
    meta = {
        "fine_label_names": [f"fine_{i}" for i in range(100)],
        "coarse_label_names": [f"coarse_{i}" for i in range(20)],
    }
    (folder / "meta").write_bytes(python2_pickle(meta))
    return folder


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


def python2_pickle(value: object) -> bytes:
    """Pickle as Python 2's protocol 2 did: byte strings for text, and numpy's names of that time."""
    return b"\x80\x02" + _pickled(value) + b"."


def _pickled(value: object) -> bytes:
    match value:
        case str():
            return _string(value.encode("latin1"))
        case bool():
            return b"\x88" if value else b"\x89"
        case int():
            return b"K" + bytes([value]) if 0 <= value < 256 else b"J" + value.to_bytes(4, "little", signed=True)
        case list():
            return b"](" + b"".join(map(_pickled, value)) + b"e"
        case dict():
            return b"}(" + b"".join(_pickled(key) + _pickled(item) for key, item in value.items()) + b"u"
        case np.ndarray():
            assert value.dtype == np.uint8
            empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + _string(b"b") + b"\x87R"
            dtype = b"cnumpy\ndtype\n" + _string(b"u1") + b"K\x00K\x01\x87R"
            dtype += b"(K\x03" + _string(b"|") + b"NNN" + _pickled(-1) * 2 + b"K\x00tb"
            shape = _pickled(value.shape[0]) + _pickled(value.shape[1]) + b"\x86"
            return empty + b"(K\x01" + shape + dtype + b"\x89" + _string(value.tobytes()) + b"tb"
    raise TypeError(type(value))


def _string(value: bytes) -> bytes:
    if len(value) < 256:
        return b"U" + bytes([len(value)]) + value
    return b"T" + len(value).to_bytes(4, "little") + value


def _flat(images: np.ndarray) -> np.ndarray:
    return images.transpose(0, 3, 1, 2).reshape(len(images), 3072)


def _write_batch10(path: Path, images: np.ndarray, labels: np.ndarray, part: slice) -> None:
    content = {
        "batch_label": path.name.replace("_", " "),
        "labels": labels[part].tolist(),
        "data": _flat(images[part]),
        "filenames": [f"image_{i}.png" for i in range(len(labels[part]))],
    }
    path.write_bytes(python2_pickle(content))
