"""A folder of class folders of image files, decoded when they are fetched."""

import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from ... import components
from ..class_folders import classes_and_parts, labelled_files
from ..reading import DataFileError
from .image_set import Positive, Source, StoredSet
from .images import SAMPLES, Images, Indices

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif"})
"""File types that the decoder reads; other files in a class folder are ignored."""


class FolderImages(Images):
    """RGB images in files, resized to cover ``size`` and cropped; without a size they all have that of the first."""

    def __init__(self, paths: list[str], labels: Tensor, root: Path, size: int | None = None) -> None:
        self.paths, self.labels, self.root, self.size = paths, labels, root, size
        if size is not None:
            self.shape = (3, size, size)
        elif paths:
            _, height, width = decode(paths[0]).shape
            self.shape = (3, height, width)

    def fetch(self, indices: Indices) -> Tensor:
        """Decode the images at ``indices`` into a new tensor, uint8 ``[N, 3, H, W]``."""
        return torch.stack([self._read(self.paths[index]) for index in indices])

    def decode(self, index: int) -> Tensor:
        """Return one image in the size of its file, uint8 ``[3, H, W]``."""
        return decode(self.paths[index])

    def subset(self, indices: Indices) -> Self:
        """Return the images at ``indices``, in that order."""
        chosen = type(self)([], self.labels[torch.as_tensor(indices, dtype=torch.int64)], self.root, self.size)
        chosen.paths, chosen.shape = [self.paths[index] for index in indices], self.shape
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
        train, *evaluation = (self._part(self.path / part, classes) for part in parts)
        for part, images in zip(parts[1:], evaluation, strict=True):
            if images.shape != train.shape:
                raise ValueError(
                    f"{self.path}: images of train and {part} differ in size; set data.image_size to resize them"
                )
        test, validation = [*evaluation, None, None][:2]
        return Source(train, test, classes, validation, statistics_samples=SAMPLES)

    def _part(self, folder: Path, classes: list[str]) -> FolderImages:
        paths, labels = labelled_files(folder, classes, EXTENSIONS, "images")
        return FolderImages(paths, torch.tensor(labels), self.path, self.image_size)


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
        # The decoder's message starts with its own source file and continues for several sentences.
        reason = re.sub(r"^.*\.cpp:\d+, ", "", str(error).strip().splitlines()[0]).split(". ")[0].rstrip(".")
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
    image = resize(image, scaled, antialias=True)
    cropped: Tensor = center_crop(image, [height, width])
    return cropped
