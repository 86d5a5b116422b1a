"""A numpy archive with x_train, y_train, x_test and y_test."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from ... import components
from ..errors import one_line
from .image_set import Source, StoredSet
from .images import ArrayImages

_KEYS = ("x_train", "y_train", "x_test", "y_test")
_MORE = ("x_val", "y_val", "class_names")
_MOST_CHANNELS = 4


@components.data("npz")
@dataclass(frozen=True)
class ImageArchive(StoredSet):
    """A numpy archive with x_train, y_train, x_test and y_test, and maybe x_val, y_val and class_names.

    Images are ``[n, H, W]``, ``[n, H, W, C]`` or ``[n, C, H, W]``, uint8 or float in 0..1; labels are integers
    ``[n]`` or ``[n, 1]``. Of four axes, the channels are the second or the last, whichever has 1 to 4 entries.

    Args:
        root: the file.

    Example:
        >>> ImageArchive("squares.npz", augment=("crop",), batch_size=64).name
        'npz'
    """

    root_is: ClassVar = "path of a file with x_train, y_train, x_test and y_test"

    def read(self) -> Source:
        """Read the archive.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is not such an archive, is damaged, or its arrays do not fit together.
        """
        path = self.path
        arrays = _read_arrays(path)
        train, test = (_to_images(path, arrays, part) for part in ("train", "test"))
        if ("x_val" in arrays) != ("y_val" in arrays):
            raise ValueError(f"{path}: x_val and y_val go together, and it has one of them alone")
        validation = _to_images(path, arrays, "val") if "x_val" in arrays else None
        for what, images in (("test", test), ("validation", validation)):
            if images is not None and train.shape != images.shape:
                raise ValueError(f"{path}: training images are {_size(train)} but {what} images are {_size(images)}")
        names = arrays.get("class_names")
        if names is not None and (names.ndim != 1 or len(set(names.tolist())) != len(names)):
            raise ValueError(f"{path}: class_names must be a list of different names, got {str(names.tolist())[:60]}")
        if names is None:
            parts = (train, test) if validation is None else (train, test, validation)
            names = np.arange(_count_classes(path, parts))
        called = [name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in names.tolist()]
        return Source(train, test, called, validation)


def _count_classes(path: Path, parts: tuple[ArrayImages, ...]) -> int:
    highest = max((int(part.labels.max()) for part in parts if len(part)), default=-1)
    if highest >= sum(map(len, parts)):
        raise ValueError(f"{path}: labels must be 0 to K - 1 for K classes, found {highest}")
    return highest + 1


def _read_arrays(path: Path) -> dict[str, NDArray[np.generic]]:
    if not path.is_file():
        raise FileNotFoundError(f"data.root: there is no file {path}")
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [key for key in _KEYS if key not in archive]
            arrays = {key: archive[key] for key in (*_KEYS, *_MORE) if key in archive}
    # What numpy and zipfile raise for a damaged file depends on where the damage is.
    except Exception as error:
        raise ValueError(f"{path} is not a readable .npz archive of plain arrays: {one_line(error)}") from error
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}; an archive needs {', '.join(_KEYS)}")
    return arrays


def _to_images(path: Path, arrays: dict[str, NDArray[np.generic]], part: str) -> ArrayImages:
    pixels, labels = arrays[f"x_{part}"], arrays[f"y_{part}"]
    if not pixels.ndim:
        raise ValueError(f"{path}: x_{part} must be [n, H, W], [n, H, W, C] or [n, C, H, W], got a single number")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ValueError(f"{path}: y_{part} must be integers [n], got {labels.dtype} {list(labels.shape)}")
    if len(labels) != len(pixels):
        raise ValueError(f"{path}: x_{part} has {len(pixels)} images but y_{part} has {len(labels)} labels")
    pixels = _channels_first(path, f"x_{part}", pixels)
    return ArrayImages(
        torch.from_numpy(_to_uint8(path, f"x_{part}", pixels)), torch.from_numpy(labels.astype(np.int64))
    )


def _channels_first(path: Path, key: str, pixels: NDArray[np.generic]) -> NDArray[np.generic]:
    if pixels.ndim == 3:
        return pixels[:, None]
    if pixels.ndim != 4:
        raise ValueError(f"{path}: {key} must be [n, H, W], [n, H, W, C] or [n, C, H, W], got {list(pixels.shape)}")
    first, last = (1 <= pixels.shape[axis] <= _MOST_CHANNELS for axis in (1, 3))
    if first == last:
        raise ValueError(
            f"{path}: {key} is {list(pixels.shape)}, but exactly one of the second and the last axis may have"
            f" 1 to {_MOST_CHANNELS} entries: that axis is taken for the channels"
        )
    return pixels if first else np.moveaxis(pixels, 3, 1)


def _to_uint8(path: Path, key: str, pixels: NDArray[np.generic]) -> NDArray[np.uint8]:
    if pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels, dtype=np.uint8)
    if pixels.dtype.kind != "f":
        raise ValueError(f"{path}: {key} must be uint8 or float in 0..1, got {pixels.dtype}")
    # The comparison is written so that NaN fails it.
    if pixels.size and not (pixels.min() >= 0 and pixels.max() <= 1):
        raise ValueError(f"{path}: {key} is float, so its values must lie in 0..1")
    return np.ascontiguousarray(np.rint(pixels.astype(np.float32) * 255), dtype=np.uint8)


def _size(images: ArrayImages) -> str:
    channels, height, width = images.shape
    return f"{height}x{width} with {channels} channel{'s' if channels > 1 else ''}"
