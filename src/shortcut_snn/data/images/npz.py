"""A numpy archive of images: x_train, y_train, x_test and y_test."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from ... import components
from ..reading import missing_root, read_npz
from .image_set import Source, StoredSet
from .images import ArrayImages

_REQUIRED = ("x_train", "y_train", "x_test", "y_test")
_OPTIONAL = ("x_val", "y_val", "class_names")
_MAX_CHANNELS = 4

Arrays = dict[str, NDArray[np.generic]]


@components.data("npz")
@dataclass(frozen=True)
class ImageArchive(StoredSet):
    """A numpy archive with x_train, y_train, x_test and y_test, and optionally x_val, y_val and class_names.

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
        """Read the archive."""
        path = self.path
        if not path.is_file():
            raise missing_root(path, "file")
        arrays = read_npz(path, _REQUIRED, _OPTIONAL)
        if ("x_val" in arrays) != ("y_val" in arrays):
            raise ValueError(f"{path} must have both x_val and y_val, or neither")
        names = {"train": "training", "test": "test"} | ({"val": "validation"} if "x_val" in arrays else {})
        parts = {part: _images_of(path, arrays, part) for part in names}
        train = parts["train"]
        for part, images in parts.items():
            if images.shape != train.shape:
                raise ValueError(
                    f"{path}: training images are {list(train.shape)} but {names[part]} images are"
                    f" {list(images.shape)} [C, H, W]"
                )
        return Source(train, parts["test"], _class_names(path, arrays, list(parts.values())), parts.get("val"))


def _class_names(path: Path, arrays: Arrays, parts: list[ArrayImages]) -> list[str]:
    names = arrays.get("class_names")
    if names is None:
        highest = max((int(part.labels.max()) for part in parts if len(part)), default=-1)
        if highest >= sum(map(len, parts)):
            raise ValueError(f"{path}: labels must be 0 to K - 1 for K classes, got {highest}")
        return [str(label) for label in range(highest + 1)]
    if names.ndim != 1 or len(set(names.tolist())) != len(names):
        raise ValueError(f"{path}: class_names must be a list of different names, got {str(names.tolist())[:60]}")
    return [name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in names.tolist()]


def _images_of(path: Path, arrays: Arrays, part: str) -> ArrayImages:
    pixels, labels = arrays[f"x_{part}"], arrays[f"y_{part}"]
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ValueError(f"{path}: y_{part} must be integers [n], got {labels.dtype} {list(labels.shape)}")
    pixels = _channels_first(path, f"x_{part}", pixels)
    if len(labels) != len(pixels):
        raise ValueError(f"{path}: x_{part} has {len(pixels)} images but y_{part} has {len(labels)} labels")
    return ArrayImages(
        torch.from_numpy(_to_uint8(path, f"x_{part}", pixels)), torch.from_numpy(labels.astype(np.int64))
    )


def _channels_first(path: Path, key: str, pixels: NDArray[np.generic]) -> NDArray[np.generic]:
    if pixels.ndim not in (3, 4) or 0 in pixels.shape[1:]:
        raise ValueError(f"{path}: {key} must be [n, H, W], [n, H, W, C] or [n, C, H, W], got {list(pixels.shape)}")
    if pixels.ndim == 3:
        return pixels[:, None]
    first, last = (1 <= pixels.shape[axis] <= _MAX_CHANNELS for axis in (1, 3))
    if first == last:
        raise ValueError(
            f"{path}: {key} is {list(pixels.shape)}; exactly one of the second and the last axis must have 1 to"
            f" {_MAX_CHANNELS} entries, the channels"
        )
    return pixels if first else np.moveaxis(pixels, 3, 1)


def _to_uint8(path: Path, key: str, pixels: NDArray[np.generic]) -> NDArray[np.uint8]:
    if pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels, dtype=np.uint8)
    if pixels.dtype.kind != "f":
        raise ValueError(f"{path}: {key} must be uint8 or float in 0..1, got {pixels.dtype}")
    # Written so that NaN fails the comparison.
    if pixels.size and not (pixels.min() >= 0 and pixels.max() <= 1):
        raise ValueError(
            f"{path}: {key} is float with values from {pixels.min():g} to {pixels.max():g}, which must lie in 0..1: "
            "divide 0..255 by 255, replace NaN"
        )
    return np.ascontiguousarray(np.rint(pixels.astype(np.float32) * 255), dtype=np.uint8)
