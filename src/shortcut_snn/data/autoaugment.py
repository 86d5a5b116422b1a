"""torchvision's AutoAugment, drawing from given bits in place of the global generator."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.transforms.v2 import AutoAugment, AutoAugmentPolicy  # type: ignore[attr-defined]


def autoaugment(images: NDArray[np.uint8], bits: NDArray[np.uint64], colour: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Apply the CIFAR-10 policy to images ``[N, C, H, W]``, one by one; what is uncovered gets the mean colour."""
    transform = AutoAugment(AutoAugmentPolicy.CIFAR10, fill=[float(value) for value in colour])
    result = torch.from_numpy(images)
    with _borrowed_generator() as generator:
        for position, seed in enumerate((bits >> np.uint64(1)).tolist()):
            generator.manual_seed(seed)
            result[position] = transform(result[position])
    return images


@contextmanager
def _borrowed_generator() -> Iterator[torch.Generator]:
    """Lend the global generator, from which the transform draws, and put it back as it was."""
    # Not torch.manual_seed or fork_rng: they also reach for every accelerator's generator.
    generator = torch.default_generator
    state = generator.get_state()
    try:
        yield generator
    finally:
        generator.set_state(state)
