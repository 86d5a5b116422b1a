import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms import v2

from shortcut_snn.data.augment import Augment, crop, cutout, flip, roll
from shortcut_snn.data.config import Augmentation
from shortcut_snn.data.counter_random import random_bits

ALL: tuple[Augmentation, ...] = ("crop", "flip", "roll", "autoaugment", "cutout")
GREY = np.array([100, 110, 120], np.uint8)


def noise(count: int, side: int = 16, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, channels, side, side)).astype(np.uint8)


def augment(images: np.ndarray, names: tuple[Augmentation, ...], epoch: int, indices: np.ndarray, seed: int = 0):
    return Augment(names, seed, (0.4,) * images.shape[1])(images.copy(), np.full(len(images), epoch), indices)


def test_crop_is_torchvisions_at_every_offset_equally() -> None:
    image = noise(1)
    count = 25 * 200
    crops = crop(np.repeat(image, count, 0), random_bits(np.arange(count)), GREY)
    padded = v2.functional.pad(torch.from_numpy(image[0]), [2])
    seen = []
    for top in range(5):
        for left in range(5):
            window = v2.functional.crop(padded, top, left, 16, 16).numpy()
            seen.append(int((crops == window).all((1, 2, 3)).sum()))
    assert sum(seen) == count
    assert np.abs(np.array(seen) - 200).max() < 5 * np.sqrt(200)


@pytest.mark.parametrize(("side", "pad"), [(8, 1), (32, 4), (4, 1)])
def test_crop_pads_an_eighth(side: int, pad: int) -> None:
    images = np.full((500, 1, side, side), 255, np.uint8)
    crops = crop(images, random_bits(np.arange(500)), GREY)
    black_rows = (crops == 0).all((1, 3)).sum(1)
    assert black_rows.max() == pad


def test_flip_is_torchvisions_half_of_the_time() -> None:
    images = noise(2000)
    flipped = flip(images.copy(), random_bits(np.arange(2000)), GREY)
    mirrored = v2.functional.horizontal_flip(torch.from_numpy(images)).numpy()
    same, other = (flipped == images).all((1, 2, 3)), (flipped == mirrored).all((1, 2, 3))
    assert (same ^ other).all()
    assert 900 < other.sum() < 1100


def test_roll_is_torchs_at_every_offset_equally() -> None:
    image = noise(1)
    count = 121 * 50
    rolled = roll(np.repeat(image, count, 0), random_bits(np.arange(count)), GREY)
    seen = [
        int((rolled == torch.roll(torch.from_numpy(image[0]), (down, right), (1, 2)).numpy()).all((1, 2, 3)).sum())
        for down in range(-5, 6)
        for right in range(-5, 6)
    ]
    assert sum(seen) == count
    assert np.abs(np.array(seen) - 50).max() < 5 * np.sqrt(50)


def test_cutout_covers_one_square_in_the_mean_colour() -> None:
    images = np.zeros((3000, 3, 16, 16), np.uint8)
    covered = cutout(images, random_bits(np.arange(3000)), GREY)
    assert set(np.unique(covered[:, 1])) == {0, 110}
    mask = covered[:, 0] > 0
    rows, columns = mask.any(2).sum(1), mask.any(1).sum(1)
    assert (mask.sum((1, 2)) == rows * columns).all()
    assert (rows.max(), rows.min(), columns.max(), columns.min()) == (8, 4, 8, 4)
    assert (images == 0).all()


@given(st.integers(0, 2**32), st.integers(0, 1000), st.permutations(range(6)))
def test_a_sample_depends_on_seed_epoch_and_index_not_on_its_batch(seed: int, epoch: int, batch: list[int]) -> None:
    images, indices = noise(6), np.array([0, 5, 17, 49_999, 3, 8])
    whole = augment(images, ALL, epoch, indices, seed)
    shuffled = augment(images[batch], ALL, epoch, indices[batch], seed)
    assert (shuffled == whole[batch]).all()
    alone = augment(images[2:3], ALL, epoch, indices[2:3], seed)
    assert (alone[0] == whole[2]).all()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("channels", [1, 3])
def test_each_augmentation_varies_with_seed_epoch_and_index(name: Augmentation, channels: int) -> None:
    images = np.repeat(noise(1, channels=channels), 64, 0)
    first = augment(images, (name,), 0, np.arange(64))
    assert first.shape == images.shape
    assert first.dtype == np.uint8
    assert (first != first[:1]).any()
    assert (first != augment(images, (name,), 1, np.arange(64))).any()
    assert (first != augment(images, (name,), 0, np.arange(64), seed=1)).any()
    assert (first == augment(images, (name,), 0, np.arange(64))).all()


def test_the_global_generators_stay_as_they_were() -> None:
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    augment(noise(8), ALL, 0, np.arange(8))
    assert torch.equal(before, torch.get_rng_state())
    assert (numpy_before == np.random.get_state()[1]).all()


def test_the_global_generators_do_not_matter() -> None:
    torch.manual_seed(1)
    first = augment(noise(8), ALL, 0, np.arange(8))
    torch.manual_seed(2)
    assert (first == augment(noise(8), ALL, 0, np.arange(8))).all()


def test_crop_flip_and_cutout_are_the_same_for_ever() -> None:
    result = augment(noise(64), ("crop", "flip", "cutout"), 2, np.arange(64))
    assert hashlib.sha256(result.tobytes()).hexdigest()[:16] == "06b3ae9c5d31d280"


def test_width_and_height_may_differ() -> None:
    images = np.random.default_rng(0).integers(1, 256, (20, 1, 16, 24)).astype(np.uint8)
    assert augment(images, ALL, 0, np.arange(20)).shape == images.shape
