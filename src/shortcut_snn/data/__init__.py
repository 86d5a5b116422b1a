"""Data sets as uint8 images or frames of events, and loaders whose samples depend on (seed, epoch, index) alone."""

from .events.cifar10dvs import CIFAR10DVS
from .events.dvsgesture import DVSGesture
from .events.event_set import EventSet
from .events.folder import EventFolder
from .events.nmnist import NMNIST
from .events.npz import RecordingArchive
from .images.augmentation import Affine, Augmentation, Crop, Cutout, Flip, ResizedCrop, Roll
from .images.autoaugment import AutoAugment
from .images.cifar import CIFAR10, CIFAR100
from .images.digits import Digits
from .images.folder import ImageFolder
from .images.image_data import ImageData
from .images.image_set import ImageSet, Source, StoredSet
from .images.images import ArrayImages, Images
from .images.npz import ImageArchive
from .inputs import InputFiles
from .loading import PATIENCE, Data, Loaders
from .reading import DataFileError
from .split import balanced_prefix
from .user_data import as_data

__all__ = [
    "CIFAR10", "CIFAR10DVS", "CIFAR100", "NMNIST", "PATIENCE", "Affine", "ArrayImages", "Augmentation",
    "AutoAugment", "Crop", "Cutout", "DVSGesture", "Data", "DataFileError", "Digits", "EventFolder", "EventSet",
    "Flip", "ImageArchive", "ImageData", "ImageFolder", "ImageSet", "Images", "InputFiles", "Loaders",
    "RecordingArchive", "ResizedCrop", "Roll", "Source", "StoredSet", "as_data", "balanced_prefix",
]  # fmt: skip
