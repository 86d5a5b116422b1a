"""Data sets as uint8 images or frames of events, and loaders whose samples depend on (seed, epoch, index) alone."""

from .events.event_set import EventSet
from .events.files import EventFolder, RecordingArchive
from .events.published import CIFAR10DVS, NMNIST, SHD, SSC, DVSGesture
from .images.augmentation import Augmentation
from .images.files import ImageArchive, ImageFolder
from .images.image_set import ImageData, ImageSet, Source
from .images.images import ArrayImages
from .images.published import CIFAR10, CIFAR100, Digits
from .loading import Data
from .user_data import as_data

__all__ = [
    "CIFAR10", "CIFAR10DVS", "CIFAR100", "NMNIST", "SHD", "SSC", "ArrayImages", "Augmentation", "DVSGesture", "Data",
    "Digits", "EventFolder", "EventSet", "ImageArchive", "ImageData", "ImageFolder", "ImageSet", "RecordingArchive",
    "Source", "as_data",
]  # fmt: skip
