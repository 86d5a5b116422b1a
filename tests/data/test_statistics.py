import numpy as np
import pytest
import torch

from shortcut_snn.data import ArrayImages, normalise
from shortcut_snn.data.statistics import colour_statistics


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


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_normalise(memory_format: torch.memory_format) -> None:
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    images = make(8).images.contiguous(memory_format=memory_format)
    result = normalise(images, mean, std)
    assert result.dtype == torch.float32
    assert result.is_contiguous(memory_format=memory_format)
    expected = (images.double() / 255 - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)
    torch.testing.assert_close(result, expected.float(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(normalise(images[0], mean, std), result[0], rtol=0, atol=0)


def test_normalised_training_images_have_mean_0_and_std_1() -> None:
    images = make()
    result = normalise(images.images, *colour_statistics(images))
    torch.testing.assert_close(result.mean((0, 2, 3)), torch.zeros(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(result.std((0, 2, 3), correction=0), torch.ones(3), rtol=0, atol=1e-5)


def test_normalise_refuses_other_images() -> None:
    with pytest.raises(ValueError, match=r"must be uint8, got torch.float32"):
        normalise(torch.zeros(1, 1, 2, 2), (0.5,), (1.0,))
    with pytest.raises(ValueError, match="3 channels cannot be normalised by 1 means"):
        normalise(make(1).images, (0.5,), (1.0,))
