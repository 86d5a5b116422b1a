"""AutoAugment's policy for CIFAR-10, applied to whole batches."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from .. import components
from .augment import Augmentation, Bits, Colour, Pixels
from .counter_random import below, random_bits, uniform


@components.augmentation("autoaugment")
@dataclass(frozen=True)
class AutoAugment(Augmentation):
    """One of 25 pairs of operations, each with a probability of its own: the policy found for CIFAR-10.

    Cubuk et al., "AutoAugment: Learning Augmentation Policies from Data", CVPR 2019, with torchvision's operations and
    magnitudes; what is uncovered gets the mean colour.
    """

    stream: ClassVar[int] = 2

    def check(self, channels: int) -> None:
        """Make sure that images have colours, and torchvision is there.

        Raises:
            ValueError: they have not.
        """
        if channels not in (1, 3):
            raise ValueError(f"data.augment: autoaugment is for images of 1 or 3 channels, these have {channels}")
        operations()  # torchvision is imported here once, instead of once in each worker process

    def __call__(self, images: Pixels, bits: Bits, colour: Colour) -> Pixels:
        """Change images ``[N, C, H, W]`` in place; those that the same operation meets go through it together."""
        pairs = below(random_bits(bits, 0), len(POLICY))
        result, fill = torch.from_numpy(images), colour.astype(float).tolist()
        for place in range(2):
            chosen = [POLICY[pair][place] for pair in pairs]
            applied = uniform(random_bits(bits, 1 + 2 * place)) < [probability for _, probability, _ in chosen]
            negative = below(random_bits(bits, 2 + 2 * place), 2) == 1
            groups: dict[tuple[str, float], list[int]] = {}
            for index in np.flatnonzero(applied).tolist():
                name, _, level = chosen[index]
                amount = magnitude(name, level, images.shape[2:])
                amount = -amount if name in SIGNED and negative[index] else amount
                groups.setdefault((name, amount), []).append(index)
            for (name, amount), members in groups.items():
                result[members] = operations()[name](result[members], amount, fill)
        return images


SIGNED = frozenset(
    {"ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast", "Sharpness"}
)  # fmt: skip


@cache
def magnitude(name: str, level: int, size: tuple[int, ...]) -> float:
    """Return what a level of 0 to 9 means for an operation on images of this (H, W)."""
    if name == "Posterize":
        return 8 - round(level / 2.25)
    if name == "Solarize":
        return 255 * float(torch.linspace(1, 0, 10)[level])
    most = {"ShearY": 0.3, "Rotate": 30, "TranslateX": 150 / 331 * size[1], "TranslateY": 150 / 331 * size[0]}
    return float(torch.linspace(0, most.get(name, 0.9), 10)[level])


@cache
def operations() -> dict[str, Callable[[Tensor, float, Any], Tensor]]:
    """Return the policy's operations on images uint8 ``[N, C, H, W]``, given a magnitude and the colour of the void."""
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


# Operation, probability and level, twice; a level of 0 stands for none too.
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
