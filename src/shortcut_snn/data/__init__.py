"""Data sets as uint8 images or frames of events, and loaders whose every sample can be drawn again."""

from .affine import Affine
from .augment import Augmentation, Crop, Cutout, Flip, ResizedCrop, Roll
from .autoaugment import AutoAugment
from .cifar import CIFAR10, CIFAR100
from .data import Data, Loaders
from .digits import Digits
from .events.cifar10dvs import CIFAR10DVS
from .events.dvsgesture import DVSGesture
from .events.event_set import EventSet
from .events.folder import EventFolder
from .events.nmnist import NMNIST
from .events.npz import RecordingArchive
from .folder import ImageFolder
from .image_data import ImageData
from .image_set import ImageSet, Source, StoredSet, held_out_test
from .images import ArrayImages, Images
from .npz import ImageArchive
from .user_data import as_data

__all__ = [
    "CIFAR10",
    "CIFAR10DVS",
    "CIFAR100",
    "NMNIST",
    "Affine",
    "ArrayImages",
    "Augmentation",
    "AutoAugment",
    "Crop",
    "Cutout",
    "DVSGesture",
    "Data",
    "Digits",
    "EventFolder",
    "EventSet",
    "Flip",
    "ImageArchive",
    "ImageData",
    "ImageFolder",
    "ImageSet",
    "Images",
    "Loaders",
    "RecordingArchive",
    "ResizedCrop",
    "Roll",
    "Source",
    "StoredSet",
    "as_data",
    "held_out_test",
]
