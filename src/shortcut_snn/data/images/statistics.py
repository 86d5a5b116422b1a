"""Mean and standard deviation of a set's colours."""

import math

import numpy as np
import torch

from .images import Images

SAMPLES = 1000
"""So many images, spread evenly, stand for a set that has to be decoded from files."""


def colour_statistics(images: Images, samples: int | None = None) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return each channel's mean and standard deviation on the 0..1 scale.

    Args:
        images: the training images.
        samples: look at so many images only, spread evenly over the set.
    """
    count = len(images) if samples is None else min(samples, len(images))
    chosen = np.linspace(0, len(images) - 1, count).round().astype(np.int64)
    counts = torch.zeros(images.shape[0], 256, dtype=torch.int64)
    for start in range(0, count, 256):
        for channel, values in enumerate(images.fetch(chosen[start : start + 256]).unbind(1)):
            counts[channel] += torch.bincount(values.flatten(), minlength=256)
    mean, std = zip(*(_moments(channel.tolist()) for channel in counts), strict=True)
    return mean, std


def _moments(counts: list[int]) -> tuple[float, float]:
    # From a histogram the sums are whole numbers, so the result is the same on every machine.
    n = sum(counts)
    total = sum(count * level for level, count in enumerate(counts))
    squares = sum(count * level**2 for level, count in enumerate(counts))
    std = math.sqrt(n * squares - total**2) / (255 * n)
    return total / (255 * n), std or 1.0  # a channel of one colour is centred, not blown up
