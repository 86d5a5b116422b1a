"""Random augmentations of training images, one file each; the user's own subclasses :class:`Augmentation`."""

from .affine import Affine
from .autoaugment import AutoAugment
from .base import Augmentation, AugmentationPipeline, Bits, Fill, Pixels
from .crop import Crop
from .cutout import Cutout
from .flip import Flip
from .resized_crop import ResizedCrop
from .roll import Roll

__all__ = [
    "Affine",
    "Augmentation",
    "AugmentationPipeline",
    "AutoAugment",
    "Bits",
    "Crop",
    "Cutout",
    "Fill",
    "Flip",
    "Pixels",
    "ResizedCrop",
    "Roll",
]
