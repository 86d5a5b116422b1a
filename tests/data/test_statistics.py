import numpy as np
import torch

from shortcut_snn.data import ArrayImages
from shortcut_snn.data.images.images import colour_statistics


def make(count: int = 700) -> ArrayImages:
    pixels = torch.randint(0, 256, (count, 3, 5, 7), dtype=torch.uint8)
    return ArrayImages(pixels, torch.zeros(count))


def test_statistics_are_those_of_the_pixels() -> None:
    images = make()
    mean, std = colour_statistics(images)
    pixels = images.images.double() / 255
    np.testing.assert_allclose(mean, pixels.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, pixels.std((0, 2, 3), correction=0), rtol=1e-12)


def test_a_sample_spreads_evenly_from_first_to_last() -> None:
    images = make(101)
    some = images.subset(range(0, 101, 10))
    assert colour_statistics(images, samples=11) == colour_statistics(some)
    assert colour_statistics(images, samples=1000) == colour_statistics(images)


def test_a_channel_of_one_colour_is_only_centred() -> None:
    mean, std = colour_statistics(ArrayImages(torch.full((4, 1, 2, 2), 51, dtype=torch.uint8), torch.zeros(4)))
    assert (mean, std) == ((0.2,), (1.0,))
