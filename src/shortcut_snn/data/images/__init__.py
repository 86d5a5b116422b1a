"""Image data sets as uint8 tensors, and augmentations whose every choice is a function of (seed, epoch, index)."""

from .augmentation import Affine, Augmentation, Crop, Cutout, Flip, ResizedCrop, Roll
from .autoaugment import AutoAugment
from .cifar import CIFAR10, CIFAR100
from .digits import Digits
from .folder import EXTENSIONS, ImageFolder, decode, fit
from .image_data import ImageData
from .image_set import ImageSet, Positive, Source, StoredSet
from .images import ArrayImages, Images, Indices
from .npz import ImageArchive

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "EXTENSIONS",
    "Affine",
    "ArrayImages",
    "Augmentation",
    "AutoAugment",
    "Crop",
    "Cutout",
    "Digits",
    "Flip",
    "ImageArchive",
    "ImageData",
    "ImageFolder",
    "ImageSet",
    "Images",
    "Indices",
    "Positive",
    "ResizedCrop",
    "Roll",
    "Source",
    "StoredSet",
    "decode",
    "fit",
]
