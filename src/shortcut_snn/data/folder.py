"""A folder of class folders, decoded file by file when asked for."""

import re
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms.v2.functional import (  # type: ignore[attr-defined]
    center_crop,
    resize,
    resized_crop,
    to_dtype,
)

from .class_folders import classes_and_parts, labelled_files
from .config import DataConfig
from .file_error import DataFileError
from .images import Images, Indices
from .resized_crop import box
from .source import Source, held_out_test
from .statistics import SAMPLES

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif"})
"""What the decoder reads; other files in a class folder are passed over."""


class ImageFileError(DataFileError):
    """An image file that cannot be used."""


class FolderImages(Images):
    """RGB images in files.

    Args:
        paths: one file per image.
        labels: int64 ``[n]``.
        size: side to which images are resized (shorter side) and centre-cropped; None: they all have the first's.

    Raises:
        ImageFileError: a file cannot be decoded, or has another size, when it is fetched.
    """

    def __init__(self, paths: list[str], labels: Tensor, size: int | None = None) -> None:
        self.paths, self.labels, self.size = paths, labels, size
        if size is not None:
            self.shape = (3, size, size)
        elif paths:
            _, height, width = _decode(paths[0]).shape
            self.shape = (3, height, width)

    def fetch(self, indices: Indices) -> Tensor:
        """Decode the images at ``indices`` into a fresh uint8 ``[N, 3, H, W]``."""
        return torch.stack([self._read(self.paths[index]) for index in indices])

    def fetch_cropped(self, indices: Indices, bits: NDArray[np.uint64]) -> Tensor:
        """Decode a part of each image at ``indices``, as its bits say, and resize it to ``size`` by ``size``."""
        parts = []
        for index, own in zip(indices, bits, strict=True):
            image = _decode(self.paths[index])
            part = box(image.shape[1], image.shape[2], own)
            parts.append(resized_crop(image, *part, list(self.shape[1:]), antialias=True))
        return torch.stack(parts)

    def subset(self, indices: Indices) -> Self:
        """Return the images at ``indices``, in that order."""
        chosen = type(self)([], self.labels[torch.as_tensor(indices, dtype=torch.int64)], self.size)
        chosen.paths, chosen.shape = [self.paths[index] for index in indices], self.shape
        return chosen

    def _read(self, path: str) -> Tensor:
        image = _decode(path)
        if self.size is not None:
            image = resize(image, [self.size], antialias=True)
            return center_crop(image, [self.size, self.size])
        if tuple(image.shape) != self.shape:
            raise ImageFileError(
                f"{path} has {image.shape[1]}x{image.shape[2]} pixels but {self.shape[1]}x{self.shape[2]} are expected;"
                " set data.image_size to resize all images"
            )
        return image


def read_folder(config: DataConfig) -> Source:
    """Read the class folders below ``config.root``, or below its train/ and test/ (and val/).

    Raises:
        FileNotFoundError: a folder is missing or holds no images.
        ValueError: the parts do not have the same classes.
    """
    root = Path(str(config.root)).expanduser()
    names, parts = classes_and_parts(root)
    if not parts:
        return held_out_test(_read_part(root, names, config.image_size), names, config.seed, SAMPLES)
    train, test, *validation = (_read_part(root / part, names, config.image_size) for part in parts)
    for part, images in zip(parts[1:], (test, *validation), strict=True):
        if images.shape != train.shape:
            raise ValueError(f"{root}: images of train and {part} differ in size; set data.image_size to resize them")
    return Source(train, test, names, validation[0] if validation else None, statistics_samples=SAMPLES)


def _read_part(folder: Path, names: list[str], size: int | None) -> FolderImages:
    paths, labels = labelled_files(folder, names, EXTENSIONS, "images")
    return FolderImages(paths, torch.tensor(labels), size)


def _decode(path: str) -> Tensor:
    try:
        image = decode_image(path, mode=ImageReadMode.RGB)
    except RuntimeError as error:
        # The decoder's messages begin with its own source file and go on for several sentences.
        reason = re.sub(r"^.*\.cpp:\d+, ", "", str(error).strip().splitlines()[0]).split(". ")[0].rstrip(".")
        raise ImageFileError(f"{path} is damaged or no image: {reason}") from error
    # Of an animation, the first frame; of 16 bits, the upper 8.
    image = image[0] if image.ndim == 4 else image
    return image if image.dtype == torch.uint8 else to_dtype(image, torch.uint8, scale=True)
