"""Random horizontal flip."""

from dataclasses import dataclass

from .... import components
from ...counter_random import below
from .base import Augmentation, Bits, Fill, Pixels


@components.augmentation("flip")
@dataclass(frozen=True)
class Flip(Augmentation):
    """Mirror left and right with probability 1/2."""

    def __call__(self, images: Pixels, bits: Bits, fill: Fill) -> Pixels:
        """Mirror half of the images ``[N, C, H, W]`` in place."""
        chosen = below(bits, 2) == 1
        images[chosen] = images[chosen][..., ::-1]
        return images
