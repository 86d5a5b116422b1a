"""AutoAugment's policy for CIFAR-10, applied to whole batches."""

from collections import defaultdict
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

    def __call__(self, images: Pixels, bits: Bits, fill: Fill) -> Pixels:
        """Change images ``[N, C, H, W]`` in place; all that need the same operation go through it as one batch."""
        # torchvision has no public access to the policy, and its transform draws its own random numbers.
        policies, apply = torchvision_policy()._policies, torchvision_policy()._apply_image_or_video_transform
        pairs = below(random_bits(bits, 0), len(policies))
        result, colour = torch.from_numpy(images), {Tensor: fill.astype(float).tolist()}
        for position in range(2):
            chosen = [policies[pair][position] for pair in pairs]
            applied = uniform(random_bits(bits, 1 + 2 * position)) < [probability for _, probability, _ in chosen]
            negative = below(random_bits(bits, 2 + 2 * position), 2) == 1
            groups: dict[tuple[str, float], list[int]] = defaultdict(list)
            for index in np.flatnonzero(applied).tolist():
                name, _, level = chosen[index]
                amount, is_signed = magnitude(name, level, images.shape[2:])
                groups[name, -amount if is_signed and negative[index] else amount].append(index)
            for (name, amount), members in groups.items():
                result[members] = apply(result[members], name, amount, torchvision_policy().interpolation, colour)
        return images


@cache
def torchvision_policy() -> Any:
    """Return torchvision's transform, which has the policy and its operations."""
    # torchvision takes a second to import, and little else needs it.
    from torchvision.transforms import v2

    return v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10)  # type: ignore[attr-defined]


@cache
def magnitude(name: str, level: int | None, size: tuple[int, ...]) -> tuple[float, bool]:
    """Return the magnitude that a level of 0 to 9 means on images of ``size`` (H, W), and whether it has a sign."""
    magnitudes, is_signed = torchvision_policy()._AUGMENTATION_SPACE[name]
    return 0.0 if level is None else float(magnitudes(10, *size)[level]), is_signed
