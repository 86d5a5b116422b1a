"""What a recipe says about data. Plain Python: neither torch nor numpy is imported here."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from .events.config import EventConfig

DataName = Literal[
    "digits", "cifar10", "cifar100", "folder", "npz", "cifar10dvs", "dvsgesture", "nmnist", "nmnist_npz", "events"
]
"""The data sets there are."""

EVENT_SETS: frozenset[DataName] = frozenset({"cifar10dvs", "dvsgesture", "nmnist", "nmnist_npz", "events"})
"""Those of recordings of event cameras."""

Augmentation = Literal["resized_crop", "crop", "flip", "roll", "autoaugment", "cutout"]
"""The augmentations there are, in the order in which they are applied."""

_DEFAULT_AUGMENT: dict[str, tuple[Augmentation, ...]] = {
    "digits": ("crop",),
    "cifar10": ("crop", "flip"),
    "cifar100": ("crop", "flip"),
    "cifar10dvs": ("flip", "roll"),
    # A mirrored wave of the right hand is one of the left.
    "dvsgesture": ("roll",),
    # A digit fills its frame: one that rolls over the border is none.
    "nmnist": ("crop",),
    "nmnist_npz": ("crop",),
}


@dataclass(frozen=True)
class DataConfig:
    """Which images or recordings, how they are split and augmented, and how they are served.

    Args:
        name: digits (8x8, inside scikit-learn), cifar10, cifar100, folder (of class folders) or npz; of event cameras:
            cifar10dvs, dvsgesture, nmnist, nmnist_npz (all recordings in one archive) or events (class folders of
            your own recordings: .aedat, .aedat4, .bin, .dat, .npy, .txt, .csv).
        root: where the files lie. CIFAR: the folder that holds cifar-10-batches-py or cifar-100-python, or will with
            download. Folder and events: one with train/ and test/, each of class folders, or one of class folders, of
            which a seeded 20 % become the test set. Npz: the file with x_train, y_train, x_test and y_test.
            cifar10dvs (its class folders), dvsgesture (trials_to_train.txt or ibmGestureTrain) and nmnist (Train and
            Test): the folder that holds these. nmnist_npz: the file with x, y, p, t, offsets and labels.
        download: fetch CIFAR, cifar10dvs, dvsgesture or nmnist into root if it is not there.
        events: how recordings become frames.
        image_size: side in pixels to which a folder's images are resized (shorter side) and centre-cropped; without
            it they must all have one size.
        validation: fraction of the training set held out, seeded and stratified; 0 for none. A folder's own val/ is
            used instead where it lies beside train/ and test/.
        augment: training augmentation, any of resized_crop (8 to 100 % of the area of a folder's image, made
            image_size by image_size pixels: the usual one for ImageNet), crop (pad by 1/8 of the side, crop at random),
            flip (left-right), roll (move by up to 5 pixels, what leaves on one side enters on the other), autoaugment
            (CIFAR-10 policy, images only) and cutout (a square of 1/2 the side in the mean colour), applied in this
            order, alike to all frames of a recording; [] for none. The default is crop and flip for CIFAR, crop for
            digits, nmnist and nmnist_npz, flip and roll for cifar10dvs, roll for dvsgesture, none for others.
        train_limit: use so many training images only, evenly over the classes, the first of each; validation comes
            out of these.
        test_limit: use so many test images only, evenly over the classes, the first of each.
        batch_size: images in a batch, per device.
        workers: loader processes, per device; 0 loads in the training process, which is fastest for sets held in
            memory unless autoaugment is on; recordings want some. Results do not depend on it.
        seed: of the splits alone, so that runs of different seeds share their validation and test images.

    Raises:
        ValueError: a field is out of its range; the message names the field.
    """

    name: DataName = "digits"
    root: str | None = None
    download: bool = False
    events: EventConfig = field(default_factory=EventConfig)
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
        if not (isinstance(self.validation, int | float) and 0.0 <= self.validation < 1.0):
            raise ValueError(f"data.validation: a fraction from 0 to below 1 is needed, got {self.validation!r}")
        unknown = [name for name in self.augment or () if name not in get_args(Augmentation)]
        if unknown:
            known = ", ".join(get_args(Augmentation))
            raise ValueError(f"data.augment: unknown augmentation {unknown[0]!r}; use any of {known}")
        if "resized_crop" in (self.augment or ()) and self.image_size is None:
            raise ValueError("data.augment: resized_crop is for a folder's images with data.image_size")
        self._check_events()
        for name in ("image_size", "train_limit", "test_limit", "batch_size", "workers", "seed"):
            value = getattr(self, name)
            if not isinstance(value, int | None):
                raise ValueError(f"data.{name}: a whole number is needed, got {value!r}")
        for name in ("image_size", "train_limit", "test_limit", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"data.{name}: at least 1 is needed, got {value}")
        for name in ("workers", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"data.{name}: 0 or more is needed, got {getattr(self, name)}")

    def _check_events(self) -> None:
        if not self.is_events:
            if self.events != EventConfig():
                raise ValueError(f"data.events: only recordings of event cameras have these, not {self.name}")
            return
        if "autoaugment" in (self.augment or ()):
            raise ValueError("data.augment: autoaugment is for images, not for frames of events")
        if self.events.sensor is not None and self.name not in ("events", "nmnist_npz"):
            raise ValueError(f"data.events.sensor: the camera of {self.name} is known; leave it out")

    @property
    def is_events(self) -> bool:
        """Whether it names recordings of event cameras."""
        return self.name in EVENT_SETS

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
    "cifar10dvs": "folder that holds (or, with data.download=true, will hold) its class folders",
    "dvsgesture": "folder that holds trials_to_train.txt, or ibmGestureTrain (with data.download=true, will hold)",
    "nmnist": "folder that holds (or, with data.download=true, will hold) Train and Test",
    "nmnist_npz": "path of a file with x, y, p, t, offsets and labels",
    "events": "folder with train/ and test/ class folders, or with class folders alone",
}
