"""Images in the user's files: class folders of image files, decoded when they are fetched, or one numpy archive."""

import copy
import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ... import components
from ..reading import DataFileError, classes_and_parts, labelled_files, missing_root, one_line, read_npz
from .image_set import Positive, Source, StoredSet
from .images import ArrayImages, Images, Indices

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif"})
"""File types that the decoder reads; other files in a class folder are ignored."""


class FolderImages(Images):
    """RGB images in files, resized to cover ``size`` and cropped; without a size they all have that of the first."""

    def __init__(self, root: Path, part: str, classes: list[str], size: int | None) -> None:
        self.paths, labels = labelled_files(root / part, classes, EXTENSIONS, "images")
        self.labels, self.root, self.size = torch.tensor(labels), root, size
        height, width = (size, size) if size is not None else decode(self.paths[0]).shape[1:]
        self.shape = (3, height, width)

    def fetch(self, indices: Indices) -> Tensor:
        """Decode the images at ``indices`` into a new tensor, uint8 ``[N, 3, H, W]``."""
        return torch.stack([self._read(self.paths[index]) for index in indices])

    def decode(self, index: int) -> Tensor:
        """Return one image in the size of its file, uint8 ``[3, H, W]``."""
        return decode(self.paths[index])

    def subset(self, indices: Indices) -> Self:
        """Return the images at ``indices``, in that order."""
        chosen = copy.copy(self)
        chosen.paths = [self.paths[index] for index in indices]
        chosen.labels = self.labels[torch.as_tensor(indices, dtype=torch.int64)]
        return chosen

    def names(self) -> list[str]:
        """Return each file's path relative to the root."""
        start = len(str(self.root / "_")) - 1
        return [path[start:].replace(os.sep, "/") for path in self.paths]

    def _read(self, path: str) -> Tensor:
        image = decode(path)
        if self.size is not None:
            return fit(image, (self.size, self.size))
        if tuple(image.shape) != self.shape:
            raise DataFileError(
                f"{path} has {image.shape[1]}x{image.shape[2]} pixels but {self.shape[1]}x{self.shape[2]} are expected;"
                " set data.image_size to resize all images"
            )
        return image


@components.data("folder")
@dataclass(frozen=True)
class ImageFolder(StoredSet):
    """Class folders of images: .jpg, .jpeg, .png, .webp and .gif, decoded when they are needed.

    Args:
        root: a folder with train/ and test/ (and val/ for validation), each of class folders; or one of class folders,
            of which a seeded 20 % become the test set. With train/ and val/ but no test/, val/ is the test set.
        image_size: side in pixels to which images are resized (shorter side) and centre-cropped; without it they must
            all have one size.

    Example:
        >>> ImageFolder("imagenet", image_size=224, augment=("resized_crop", "flip"), workers=8).augmentations
        (ResizedCrop(min_area=0.08), Flip(alternating=False))
    """

    image_size: Positive | None = None

    root_is: ClassVar = "folder with train/ and test/ class folders, or with class folders alone"

    def read(self) -> Source:
        """List the files."""
        classes, parts = classes_and_parts(self.path)
        train, *evaluation = (FolderImages(self.path, part, classes, self.image_size) for part in parts)
        for part, images in zip(parts[1:], evaluation, strict=True):
            if images.shape != train.shape:
                raise ValueError(
                    f"{self.path}: images of train and {part} differ in size; set data.image_size to resize them"
                )
        test, validation = [*evaluation, None, None][:2]
        return Source(train, test, classes, validation, statistics_samples=1000)


def decode(path: str, channels: int = 3) -> Tensor:
    """Return the image in a file, uint8 ``[channels, H, W]``: 3 channels for RGB, 1 for grey."""
    from torchvision.io import ImageReadMode, decode_image
    from torchvision.transforms.v2.functional import rgb_to_grayscale, to_dtype  # type: ignore[attr-defined]

    # The decoder opens only names that are valid UTF-8; it decodes the bytes of other files.
    is_utf8 = path.encode("utf-8", "replace") == os.fsencode(path)
    try:
        source = path if is_utf8 else torch.from_numpy(np.fromfile(path, np.uint8))
        # Always RGB: in grey mode, some decoders return colours or the indices of a palette.
        image = decode_image(source, mode=ImageReadMode.RGB)
    except RuntimeError as error:
        # The decoder's message starts with its own source file.
        reason = re.sub(r"^.*\.cpp:\d+, ", "", one_line(error))
        if os.path.splitext(path)[1].lower() not in EXTENSIONS:
            reason = f"its extension is none of {', '.join(sorted(EXTENSIONS))}; convert it"
        raise DataFileError(f"{path} is damaged, animated or not an image: {reason}") from error
    if image.ndim == 4:  # an animation; take the first frame
        image = image[0]
    if image.dtype != torch.uint8:  # 16 bits per channel
        image = to_dtype(image, torch.uint8, scale=True)
    if channels == 1 and (image == image[:1]).all():
        # Grey pixels stay as they are, because the conversion's weights do not sum to exactly 1.
        image = image[:1]
    elif channels == 1:
        # Python shows a warning with the same text once.
        warnings.warn("images in colour are converted to grey, which the network takes", stacklevel=2)
        image = rgb_to_grayscale(image)
    return image


def fit(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize an image ``[C, H, W]`` until it just covers ``size``, then crop the centre."""
    from torchvision.transforms.v2.functional import center_crop, resize  # type: ignore[attr-defined]

    height, width = size
    scale = max(height / image.shape[1], width / image.shape[2])
    scaled = [max(round(scale * image.shape[1]), height), max(round(scale * image.shape[2]), width)]
    cropped: Tensor = center_crop(resize(image, scaled, antialias=True), [height, width])
    return cropped


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
        arrays = read_npz(path, ("x_train", "y_train", "x_test", "y_test"), ("x_val", "y_val", "class_names"))
        if ("x_val" in arrays) != ("y_val" in arrays):
            raise ValueError(f"{path} must have both x_val and y_val, or neither")
        names = {"train": "training", "test": "test"} | ({"val": "validation"} if "x_val" in arrays else {})
        parts = {part: _part_images(path, arrays, part) for part in names}
        train = parts["train"]
        for part, images in parts.items():
            if images.shape != train.shape:
                raise ValueError(
                    f"{path}: training images are {list(train.shape)} but {names[part]} images are"
                    f" {list(images.shape)} [C, H, W]"
                )
        return Source(train, parts["test"], _class_names(path, arrays, list(parts.values())), parts.get("val"))


def _class_names(path: Path, arrays: dict[str, NDArray[Any]], parts: list[ArrayImages]) -> list[str]:
    names = arrays.get("class_names")
    if names is None:
        highest = max((int(part.labels.max()) for part in parts if len(part)), default=-1)
        if highest >= sum(map(len, parts)):
            raise ValueError(f"{path}: labels must be 0 to K - 1 for K classes, got {highest}")
        return [str(label) for label in range(highest + 1)]
    if names.ndim != 1 or len(set(names.tolist())) != len(names):
        raise ValueError(f"{path}: class_names must be a list of different names, got {str(names.tolist())[:60]}")
    return [name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in names.tolist()]


def _part_images(path: Path, arrays: dict[str, NDArray[Any]], part: str) -> ArrayImages:
    pixels, labels = arrays[f"x_{part}"], arrays[f"y_{part}"]
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ValueError(f"{path}: y_{part} must be integers [n], got {labels.dtype} {list(labels.shape)}")
    pixels = _channels_first(path, f"x_{part}", pixels)
    if len(labels) != len(pixels):
        raise ValueError(f"{path}: x_{part} has {len(pixels)} images but y_{part} has {len(labels)} labels")
    images = torch.from_numpy(_to_uint8(path, f"x_{part}", pixels))
    return ArrayImages(images, torch.from_numpy(labels.astype(np.int64)))


def _channels_first(path: Path, key: str, pixels: NDArray[Any]) -> NDArray[Any]:
    if pixels.ndim not in (3, 4) or 0 in pixels.shape[1:]:
        raise ValueError(f"{path}: {key} must be [n, H, W], [n, H, W, C] or [n, C, H, W], got {list(pixels.shape)}")
    if pixels.ndim == 3:
        return pixels[:, None]
    first, last = (1 <= pixels.shape[axis] <= 4 for axis in (1, 3))
    if first == last:
        raise ValueError(
            f"{path}: {key} is {list(pixels.shape)}; exactly one of the second and the last axis must have 1 to 4"
            " entries, the channels"
        )
    return pixels if first else np.moveaxis(pixels, 3, 1)


def _to_uint8(path: Path, key: str, pixels: NDArray[Any]) -> NDArray[np.uint8]:
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
