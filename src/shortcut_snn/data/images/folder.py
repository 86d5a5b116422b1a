"""A folder of class folders, decoded file by file when asked for."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ... import components
from ..class_folders import classes_and_parts, labelled_files
from ..errors import DataFileError
from ..fingerprint import Fingerprint, of_files
from .augmentation import Box
from .image_set import Positive, Source, StoredSet, held_out_test
from .images import Images, Indices
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
        root: the folder in which they lie, perhaps further down; names are told from there.
        size: side to which images are resized (shorter side) and centre-cropped; None: they all have the first's.

    Raises:
        ImageFileError: a file cannot be decoded, or has another size, when it is fetched.
    """

    def __init__(self, paths: list[str], labels: Tensor, root: Path, size: int | None = None) -> None:
        self.paths, self.labels, self.root, self.size = paths, labels, root, size
        if size is not None:
            self.shape = (3, size, size)
        elif paths:
            _, height, width = decode(paths[0]).shape
            self.shape = (3, height, width)

    def fetch(self, indices: Indices) -> Tensor:
        """Decode the images at ``indices`` into a fresh uint8 ``[N, 3, H, W]``."""
        return torch.stack([self._read(self.paths[index]) for index in indices])

    def fetch_cropped(
        self, indices: Indices, bits: NDArray[np.uint64], box: Callable[[int, int, np.uint64], Box]
    ) -> Tensor:
        """Decode a part of each image at ``indices``, as its bits say, and resize it to ``size`` by ``size``."""
        from torchvision.transforms.v2.functional import resized_crop  # type: ignore[attr-defined]

        parts = []
        for index, own in zip(indices, bits, strict=True):
            image = decode(self.paths[index])
            part = box(image.shape[1], image.shape[2], own)
            parts.append(resized_crop(image, *part, list(self.shape[1:]), antialias=True))
        return torch.stack(parts)

    def subset(self, indices: Indices) -> Self:
        """Return the images at ``indices``, in that order."""
        chosen = type(self)([], self.labels[torch.as_tensor(indices, dtype=torch.int64)], self.root, self.size)
        chosen.paths, chosen.shape = [self.paths[index] for index in indices], self.shape
        return chosen

    def names(self) -> list[str]:
        """Return each file's path below the root."""
        start = len(str(self.root / "_")) - 1
        return [path[start:].replace(os.sep, "/") for path in self.paths]

    def fingerprint(self) -> Fingerprint:
        """Return by what one can tell whether these are the same files later on: names, sizes, dates, a sample."""
        return of_files(self.paths)

    def _read(self, path: str) -> Tensor:
        image = decode(path)
        if self.size is not None:
            return fit(image, (self.size, self.size))
        if tuple(image.shape) != self.shape:
            raise ImageFileError(
                f"{path} has {image.shape[1]}x{image.shape[2]} pixels but {self.shape[1]}x{self.shape[2]} are expected;"
                " set data.image_size to resize all images"
            )
        return image


@components.data("folder")
@dataclass(frozen=True)
class ImageFolder(StoredSet):
    """Class folders of images: .jpg, .jpeg, .png, .webp and .gif, decoded when they are asked for.

    Args:
        root: a folder with train/ and test/ (and val/ for validation), each of class folders; or one of class folders,
            of which a seeded 20 % become the test set. With train/ and val/ but no test/, val/ is the test set.
        image_size: side in pixels to which images are resized (shorter side) and centre-cropped; without it they must
            all have one size.

    Example:
        >>> ImageFolder("imagenet", image_size=224, augment=("resized_crop", "flip"), workers=8).augmentations
        (ResizedCrop(least=0.08), Flip())
    """

    image_size: Positive | None = None

    root_is: ClassVar = "folder with train/ and test/ class folders, or with class folders alone"

    def read(self) -> Source:
        """List the files.

        Raises:
            FileNotFoundError: a folder is missing or holds no images.
            ValueError: the parts do not have the same classes.
        """
        names, parts = classes_and_parts(self.path)
        if not parts:
            return held_out_test(self._part(self.path, names), names, self.seed, SAMPLES)
        train, test, *validation = (self._part(self.path / part, names) for part in parts)
        for part, images in zip(parts[1:], (test, *validation), strict=True):
            if images.shape != train.shape:
                raise ValueError(
                    f"{self.path}: images of train and {part} differ in size; set data.image_size to resize them"
                )
        return Source(train, test, names, validation[0] if validation else None, statistics_samples=SAMPLES)

    def _part(self, folder: Path, names: list[str]) -> FolderImages:
        paths, labels = labelled_files(folder, names, EXTENSIONS, "images")
        return FolderImages(paths, torch.tensor(labels), self.path, self.image_size)


def decode(path: str, channels: int = 3) -> Tensor:
    """Return the image in a file, uint8 ``[channels, H, W]``: 3 for RGB, 1 for grey levels.

    Raises:
        ImageFileError: it is damaged, or no image.
    """
    from torchvision.io import ImageReadMode, decode_image
    from torchvision.transforms.v2.functional import rgb_to_grayscale, to_dtype  # type: ignore[attr-defined]

    # The decoder takes names in UTF-8 alone.
    text = path.encode("utf-8", "replace") == os.fsencode(path)
    try:
        # Asked for grey levels, some decoders give colours all the same, or the numbers of a palette.
        source = path if text else torch.from_numpy(np.fromfile(path, np.uint8))
        image = decode_image(source, mode=ImageReadMode.RGB)
    except RuntimeError as error:
        # The decoder's messages begin with its own source file and go on for several sentences.
        reason = re.sub(r"^.*\.cpp:\d+, ", "", str(error).strip().splitlines()[0]).split(". ")[0].rstrip(".")
        raise ImageFileError(f"{path} is damaged or no image: {reason}") from error
    # Of an animation, the first frame; of 16 bits, the upper 8.
    image = image[0] if image.ndim == 4 else image
    image = image if image.dtype == torch.uint8 else to_dtype(image, torch.uint8, scale=True)
    if channels == 1:
        # Levels that are grey already stay what they are: the weights of the colours do not quite add up to 1.
        image = image[:1] if bool((image == image[:1]).all()) else rgb_to_grayscale(image)
    return image


def fit(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Return an image ``[C, H, W]`` at ``size``: as small as covers it, then the centre."""
    from torchvision.transforms.v2.functional import center_crop, resize  # type: ignore[attr-defined]

    height, width = size
    if height == width:
        image = resize(image, [height], antialias=True)
    else:
        scale = max(height / image.shape[1], width / image.shape[2])
        image = resize(
            image, [max(round(scale * side), least) for side, least in zip(image.shape[1:], size, strict=True)],
            antialias=True,
        )  # fmt: skip
    cropped: Tensor = center_crop(image, [height, width])
    return cropped
