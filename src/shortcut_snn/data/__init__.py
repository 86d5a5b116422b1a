"""Data sets as uint8 images or frames of events, and loaders whose samples depend on (seed, epoch, index) alone."""

from .data import Data, Loaders
from .events import CIFAR10DVS, NMNIST, DVSGesture, EventFolder, EventSet, RecordingArchive
from .images import (
    CIFAR10,
    CIFAR100,
    Affine,
    ArrayImages,
    Augmentation,
    AutoAugment,
    Crop,
    Cutout,
    Digits,
    Flip,
    ImageArchive,
    ImageData,
    ImageFolder,
    Images,
    ImageSet,
    ResizedCrop,
    Roll,
    Source,
    StoredSet,
)
from .inputs import InputFiles
from .loading import PATIENCE
from .reading import DataFileError
from .split import balanced_prefix
from .user_data import as_data

__all__ = [
    "CIFAR10",
    "CIFAR10DVS",
    "CIFAR100",
    "NMNIST",
    "PATIENCE",
    "Affine",
    "ArrayImages",
    "Augmentation",
    "AutoAugment",
    "Crop",
    "Cutout",
    "DVSGesture",
    "Data",
    "DataFileError",
    "Digits",
    "EventFolder",
    "EventSet",
    "Flip",
    "ImageArchive",
    "ImageData",
    "ImageFolder",
    "ImageSet",
    "Images",
    "InputFiles",
    "Loaders",
    "RecordingArchive",
    "ResizedCrop",
    "Roll",
    "Source",
    "StoredSet",
    "as_data",
    "balanced_prefix",
]
