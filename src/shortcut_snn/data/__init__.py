"""Data sets as uint8 images or frames of events, and loaders whose samples depend on (seed, epoch, index) alone."""

from .events.cifar10dvs import CIFAR10DVS
from .events.dvsgesture import DVSGesture
from .events.event_set import EventSet
from .events.folder import EventFolder
from .events.heidelberg import SHD, SSC
from .events.nmnist import NMNIST
from .events.npz import RecordingArchive
from .images import autoaugment  # noqa: F401 (registers its component)
from .images.augmentation import Augmentation
from .images.cifar import CIFAR10, CIFAR100
from .images.digits import Digits
from .images.folder import ImageFolder
from .images.image_data import ImageData
from .images.image_set import ImageSet, Source
from .images.images import ArrayImages
from .images.npz import ImageArchive
from .loading import Data
from .user_data import as_data

__all__ = [
    "CIFAR10",
    "CIFAR10DVS",
    "CIFAR100",
    "NMNIST",
    "SHD",
    "SSC",
    "ArrayImages",
    "Augmentation",
    "DVSGesture",
    "Data",
    "Digits",
    "EventFolder",
    "EventSet",
    "ImageArchive",
    "ImageData",
    "ImageFolder",
    "ImageSet",
    "RecordingArchive",
    "Source",
    "as_data",
]  # fmt: skip
