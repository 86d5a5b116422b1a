"""Mean and standard deviation of a data set's channels."""

import math

import torch

from ..fingerprint import evenly_spaced
from .images import Images

SAMPLES = 1000
"""Number of images that are decoded for the statistics of a set of image files."""


def colour_statistics(images: Images, samples: int | None = None) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return each channel's mean and standard deviation on the 0..1 scale.

    Args:
        images: the training images.
        samples: number of evenly spaced images to use; None for all.
    """
    chosen = evenly_spaced(len(images), len(images) if samples is None else samples)
    counts = torch.zeros(images.shape[0], 256, dtype=torch.int64)
    for start in range(0, len(chosen), 256):
        for channel, values in enumerate(images.fetch(chosen[start : start + 256]).unbind(1)):
            counts[channel] += torch.bincount(values.flatten(), minlength=256)
    mean, std = zip(*(_moments(channel.tolist()) for channel in counts), strict=True)
    return mean, std


def _moments(counts: list[int]) -> tuple[float, float]:
    """Return mean and standard deviation from a histogram; integer sums give the same result on every machine."""
    n = sum(counts)
    total = sum(count * level for level, count in enumerate(counts))
    squares = sum(count * level**2 for level, count in enumerate(counts))
    std = math.sqrt(n * squares - total**2) / (255 * n)
    # A channel of one colour is centred, not scaled.
    return total / (255 * n), std or 1.0
