"""AutoAugment's policy for CIFAR-10, applied to whole batches."""

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ... import components
from ..counter_random import below, random_bits, uniform
from .augmentation import Augmentation, Bits, Fill, Pixels


@components.augmentation("autoaugment")
@dataclass(frozen=True)
class AutoAugment(Augmentation):
    """Apply one of 25 pairs of operations, each with its own probability: the policy found for CIFAR-10.

    Cubuk et al., "AutoAugment: Learning Augmentation Policies from Data", CVPR 2019, with torchvision's operations and
    magnitudes. Uncovered pixels get the mean colour.
    """

    takes_events: ClassVar = False
    takes_channels: ClassVar = (1, 3)

    def __call__(self, images: Pixels, bits: Bits, fill: Fill) -> Pixels:
        """Change images ``[N, C, H, W]`` in place; all that need the same operation go through it as one batch."""
        pairs = below(random_bits(bits, 0), len(POLICY))
        result, colour = torch.from_numpy(images), fill.astype(float).tolist()
        for position in range(2):
            chosen = [POLICY[pair][position] for pair in pairs]
            applied = uniform(random_bits(bits, 1 + 2 * position)) < [probability for _, probability, _ in chosen]
            negative = below(random_bits(bits, 2 + 2 * position), 2) == 1
            groups: dict[tuple[str, float], list[int]] = defaultdict(list)
            for index in np.flatnonzero(applied).tolist():
                name, _, level = chosen[index]
                amount = magnitude(name, level, images.shape[2:])
                groups[name, -amount if name in SIGNED and negative[index] else amount].append(index)
            for (name, amount), members in groups.items():
                result[members] = operations()[name](result[members], amount, colour)
        return images


SIGNED = frozenset(
    {"ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast", "Sharpness"}
)  # fmt: skip
"""Operations whose magnitude changes its sign with probability 1/2."""


@cache
def magnitude(name: str, level: int, size: tuple[int, ...]) -> float:
    """Return the magnitude that a level of 0 to 9 means for an operation on images of ``size`` (H, W)."""
    if name == "Posterize":
        return 8 - round(level / 2.25)
    if name == "Solarize":
        return 255 * float(torch.linspace(1, 0, 10)[level])
    largest = {"ShearY": 0.3, "Rotate": 30, "TranslateX": 150 / 331 * size[1], "TranslateY": 150 / 331 * size[0]}
    return float(torch.linspace(0, largest.get(name, 0.9), 10)[level])


@cache
def operations() -> dict[str, Callable[[Tensor, float, Any], Tensor]]:
    """Return the policy's operations: functions of images uint8 ``[N, C, H, W]``, a magnitude and the fill colour."""
    # torchvision takes a second to import, and little else needs it.
    from torchvision.transforms.v2 import functional

    F: Any = functional

    def move(images: Tensor, fill: Any, right: float = 0, down: float = 0) -> Tensor:
        moved: Tensor = F.affine(images, 0.0, [int(right), int(down)], 1.0, [0.0, 0.0], fill=fill)
        return moved

    def shear(images: Tensor, amount: float, fill: Any) -> Tensor:
        angles = [0.0, math.degrees(math.atan(amount))]
        sheared: Tensor = F.affine(images, 0.0, [0, 0], 1.0, angles, fill=fill, center=[0.0, 0.0])
        return sheared

    return {
        "ShearY": shear,
        "TranslateX": lambda images, amount, fill: move(images, fill, right=amount),
        "TranslateY": lambda images, amount, fill: move(images, fill, down=amount),
        "Rotate": lambda images, amount, fill: F.rotate(images, amount, fill=fill),
        "Brightness": lambda images, amount, fill: F.adjust_brightness(images, 1 + amount),
        "Color": lambda images, amount, fill: F.adjust_saturation(images, 1 + amount),
        "Contrast": lambda images, amount, fill: F.adjust_contrast(images, 1 + amount),
        "Sharpness": lambda images, amount, fill: F.adjust_sharpness(images, 1 + amount),
        "Posterize": lambda images, amount, fill: F.posterize(images, int(amount)),
        "Solarize": lambda images, amount, fill: F.solarize(images, amount),
        "AutoContrast": lambda images, amount, fill: F.autocontrast(images),
        "Equalize": lambda images, amount, fill: F.equalize(images),
        "Invert": lambda images, amount, fill: F.invert(images),
    }


# Pairs of (operation, probability, level); operations without a magnitude have level 0.
POLICY = (
    (("Invert", 0.1, 0), ("Contrast", 0.2, 6)), (("Rotate", 0.7, 2), ("TranslateX", 0.3, 9)),
    (("Sharpness", 0.8, 1), ("Sharpness", 0.9, 3)), (("ShearY", 0.5, 8), ("TranslateY", 0.7, 9)),
    (("AutoContrast", 0.5, 0), ("Equalize", 0.9, 0)), (("ShearY", 0.2, 7), ("Posterize", 0.3, 7)),
    (("Color", 0.4, 3), ("Brightness", 0.6, 7)), (("Sharpness", 0.3, 9), ("Brightness", 0.7, 9)),
    (("Equalize", 0.6, 0), ("Equalize", 0.5, 0)), (("Contrast", 0.6, 7), ("Sharpness", 0.6, 5)),
    (("Color", 0.7, 7), ("TranslateX", 0.5, 8)), (("Equalize", 0.3, 0), ("AutoContrast", 0.4, 0)),
    (("TranslateY", 0.4, 3), ("Sharpness", 0.2, 6)), (("Brightness", 0.9, 6), ("Color", 0.2, 8)),
    (("Solarize", 0.5, 2), ("Invert", 0.0, 0)), (("Equalize", 0.2, 0), ("AutoContrast", 0.6, 0)),
    (("Equalize", 0.2, 0), ("Equalize", 0.6, 0)), (("Color", 0.9, 9), ("Equalize", 0.6, 0)),
    (("AutoContrast", 0.8, 0), ("Solarize", 0.2, 8)), (("Brightness", 0.1, 3), ("Color", 0.7, 0)),
    (("Solarize", 0.4, 5), ("AutoContrast", 0.9, 0)), (("TranslateY", 0.9, 9), ("TranslateY", 0.7, 9)),
    (("AutoContrast", 0.9, 0), ("Solarize", 0.8, 3)), (("Equalize", 0.8, 0), ("Invert", 0.1, 0)),
    (("TranslateY", 0.7, 9), ("AutoContrast", 0.9, 0)),
)  # fmt: skip
