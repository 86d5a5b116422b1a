"""What a recipe says about data. Plain Python: neither torch nor numpy is imported here."""

from dataclasses import dataclass
from typing import Literal, get_args

DataName = Literal["digits", "cifar10", "cifar100", "folder", "npz"]
"""The data sets there are."""

Augmentation = Literal["resized_crop", "crop", "flip", "autoaugment", "cutout"]
"""The augmentations there are, in the order in which they are applied."""

_DEFAULT_AUGMENT: dict[str, tuple[Augmentation, ...]] = {
    "digits": ("crop",),
    "cifar10": ("crop", "flip"),
    "cifar100": ("crop", "flip"),
}


@dataclass(frozen=True)
class DataConfig:
    """Which images, how they are split and augmented, and how they are served.

    Args:
        name: digits (8x8, inside scikit-learn), cifar10, cifar100, folder (of class folders) or npz.
        root: where the files lie. CIFAR: the folder that holds cifar-10-batches-py or cifar-100-python, or will with
            download. Folder: one with train/ and test/, each of class folders, or one of class folders, of which a
            seeded 20 % become the test set. Npz: the file with x_train, y_train, x_test and y_test.
        download: fetch CIFAR into root if it is not there.
        image_size: side in pixels to which a folder's images are resized (shorter side) and centre-cropped; without
            it they must all have one size.
        validation: fraction of the training set held out, seeded and stratified; 0 for none. A folder's own val/ is
            used instead where it lies beside train/ and test/.
        augment: training augmentation, any of resized_crop (8 to 100 % of the area of a folder's image, made
            image_size by image_size pixels: the usual one for ImageNet), crop (pad by 1/8 of the side, crop at random),
            flip (left-right), autoaugment (CIFAR-10 policy) and cutout (a square of 1/2 the side in the mean colour),
            applied in this order; [] for none. The default is crop and flip for CIFAR, crop for digits, none for
            others.
        train_limit: use so many training images only, evenly over the classes, the first of each; validation comes
            out of these.
        test_limit: use so many test images only, evenly over the classes, the first of each.
        batch_size: images in a batch, per device.
        workers: loader processes, per device; 0 loads in the training process, which is fastest for sets held in
            memory unless autoaugment is on. Results do not depend on it.
        seed: of the splits alone, so that runs of different seeds share their validation and test images.

    Raises:
        ValueError: a field is out of its range; the message names the field.
    """

    name: DataName = "digits"
    root: str | None = None
    download: bool = False
    image_size: int | None = None
    validation: float = 0.1
    augment: tuple[Augmentation, ...] | None = None
    train_limit: int | None = None
    test_limit: int | None = None
    batch_size: int = 128
    workers: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.name not in get_args(DataName):
            raise ValueError(f"data.name: unknown data set {self.name!r}; use one of {', '.join(get_args(DataName))}")
        if self.name != "digits" and not self.root:
            raise ValueError(f"data.root: {self.name} needs the {_ROOT[self.name]}")
        if self.image_size is not None and self.name != "folder":
            raise ValueError(f"data.image_size: only a folder's images are resized, not those of {self.name}")
        if not 0.0 <= self.validation < 1.0:
            raise ValueError(f"data.validation: a fraction from 0 to below 1 is needed, got {self.validation}")
        unknown = [name for name in self.augment or () if name not in get_args(Augmentation)]
        if unknown:
            known = ", ".join(get_args(Augmentation))
            raise ValueError(f"data.augment: unknown augmentation {unknown[0]!r}; use any of {known}")
        if "resized_crop" in (self.augment or ()) and self.image_size is None:
            raise ValueError("data.augment: resized_crop is for a folder's images with data.image_size")
        for field in ("image_size", "train_limit", "test_limit", "batch_size"):
            value = getattr(self, field)
            if value is not None and value < 1:
                raise ValueError(f"data.{field}: at least 1 is needed, got {value}")
        for field in ("workers", "seed"):
            if getattr(self, field) < 0:
                raise ValueError(f"data.{field}: 0 or more is needed, got {getattr(self, field)}")

    @property
    def augmentations(self) -> tuple[Augmentation, ...]:
        """The training augmentations in the order in which they are applied, the set's own default filled in."""
        chosen = _DEFAULT_AUGMENT.get(self.name, ()) if self.augment is None else self.augment
        return tuple(name for name in get_args(Augmentation) if name in chosen)


_ROOT = {
    "cifar10": "folder that holds (or, with data.download=true, will hold) cifar-10-batches-py",
    "cifar100": "folder that holds (or, with data.download=true, will hold) cifar-100-python",
    "folder": "folder with train/ and test/ class folders, or with class folders alone",
    "npz": "path of a file with x_train, y_train, x_test and y_test",
}
