import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import affine_transform
from torchvision.transforms import v2

from shortcut_snn.data import ArrayImages, Augmentation
from shortcut_snn.data.counter_random import random_bits, uniform
from shortcut_snn.data.images.augmentation import (
    SIGNED,
    Affine,
    AutoAugment,
    Crop,
    Cutout,
    Flip,
    Roll,
    magnitude,
    operations,
    policy,
)
from shortcut_snn.data.images.image_set import AugmentedImages

ALL = (Crop(), Flip(), Roll(), Affine(), AutoAugment(), Cutout())
GREY = np.array([100, 110, 120], np.uint8)


def noise(count: int, side: int = 16, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, channels, side, side)).astype(np.uint8)


def augment(images: np.ndarray, steps: tuple[Augmentation, ...], epoch: int, indices: np.ndarray, seed: int = 0):
    stored = ArrayImages(torch.from_numpy(images), torch.zeros(len(images)))
    augmented = AugmentedImages(stored, steps, seed, (0.4,) * images.shape[1])
    return augmented.augment(images.copy(), np.full(len(images), epoch), indices)


def crops(image: np.ndarray) -> list[np.ndarray]:
    padded = np.pad(image, ((0, 0), (2, 2), (2, 2)))
    return [padded[:, top : top + 16, left : left + 16] for top in range(5) for left in range(5)]


def rolls(image: np.ndarray) -> list[np.ndarray]:
    return [np.roll(image, (down, right), (1, 2)) for down in range(-2, 3) for right in range(-2, 3)]


@pytest.mark.parametrize(("step", "possible"), [(Crop(), crops), (Roll(2), rolls)])
def test_every_offset_is_equally_frequent(step: Augmentation, possible) -> None:
    image = noise(1)
    moved = step(np.repeat(image, 2500, 0), random_bits(np.arange(2500)), GREY)
    seen = [int((moved == one).all((1, 2, 3)).sum()) for one in possible(image[0])]
    assert sum(seen) == 2500
    assert np.abs(np.array(seen) - 100).max() < 5 * np.sqrt(100)


@pytest.mark.parametrize(("side", "pad"), [(8, 1), (32, 4), (4, 1)])
def test_crop_pads_an_eighth(side: int, pad: int) -> None:
    images = np.full((500, 1, side, side), 255, np.uint8)
    crops = Crop()(images, random_bits(np.arange(500)), GREY)
    black_rows = (crops == 0).all((1, 3)).sum(1)
    assert black_rows.max() == pad


def test_flip_mirrors_half_of_the_images() -> None:
    images = noise(2000)
    flipped = Flip()(images.copy(), random_bits(np.arange(2000)), GREY)
    mirrored = v2.functional.horizontal_flip(torch.from_numpy(images)).numpy()
    same, other = (flipped == images).all((1, 2, 3)), (flipped == mirrored).all((1, 2, 3))
    assert (same ^ other).all()
    assert 900 < other.sum() < 1100


def test_alternating_flip_mirrors_an_image_every_second_epoch() -> None:
    images, indices = noise(2000), np.arange(2000)
    mirrored = [
        (augment(images, (Flip(alternating=True),), epoch, indices) != images).any((1, 2, 3)) for epoch in range(4)
    ]
    assert 900 < mirrored[0].sum() < 1100
    assert (mirrored[1] == ~mirrored[0]).all()
    assert (mirrored[2] == mirrored[0]).all()
    assert (mirrored[3] == mirrored[1]).all()


@pytest.mark.parametrize("size", [(16, 16), (12, 20), (24, 8)])
def test_affine_agrees_with_scipy(size: tuple[int, int]) -> None:
    images, bits = noise(20, max(size))[..., : size[0], : size[1]], random_bits(np.arange(20))
    moved = Affine(degrees=40, scale=0.3, shear=0.4, shift=0.2)(images.copy(), bits, GREY)
    centre = (np.array(size) - 1) / 2
    for number in range(20):
        turn, grow, across, down, *shift = (2 * uniform(random_bits(bits, draw))[number] - 1 for draw in range(6))
        angle = np.deg2rad(40 * turn)
        # From where a pixel comes, (x, y) in pixels from the middle.
        matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        matrix = 1.3**-grow * matrix @ np.array([[1, 0.4 * across], [0.4 * down, 1]])
        by_row = matrix[::-1, ::-1]
        offset = centre - by_row @ centre + np.array(size) * 0.2 * np.array(shift[::-1])
        for channel in range(3):
            plane = images[number, channel].astype(float)
            wanted = affine_transform(plane, by_row, offset, order=1, mode="grid-constant", cval=0)
            np.testing.assert_allclose(moved[number, channel], wanted, atol=0.51)


def test_cutout_covers_one_square_in_the_mean_colour() -> None:
    images = np.zeros((3000, 3, 16, 16), np.uint8)
    covered = Cutout()(images, random_bits(np.arange(3000)), GREY)
    assert set(np.unique(covered[:, 1])) == {0, 110}
    mask = covered[:, 0] > 0
    rows, columns = mask.any(2).sum(1), mask.any(1).sum(1)
    assert (mask.sum((1, 2)) == rows * columns).all()
    assert (rows.max(), rows.min(), columns.max(), columns.min()) == (8, 4, 8, 4)
    assert (images == 0).all()


@given(st.integers(0, 2**32), st.integers(0, 1000), st.permutations(range(6)))
def test_a_sample_does_not_depend_on_its_batch(seed: int, epoch: int, batch: list[int]) -> None:
    images, indices = noise(6), np.array([0, 5, 17, 49_999, 3, 8])
    whole = augment(images, ALL, epoch, indices, seed)
    shuffled = augment(images[batch], ALL, epoch, indices[batch], seed)
    assert (shuffled == whole[batch]).all()
    alone = augment(images[2:3], ALL, epoch, indices[2:3], seed)
    assert (alone[0] == whole[2]).all()


@pytest.mark.parametrize("step", ALL)
@pytest.mark.parametrize("channels", [1, 3])
def test_each_augmentation_varies_with_seed_epoch_and_index(step: Augmentation, channels: int) -> None:
    images = np.repeat(noise(1, channels=channels), 64, 0)
    first = augment(images, (step,), 0, np.arange(64))
    assert first.shape == images.shape
    assert first.dtype == np.uint8
    assert (first != first[:1]).any()
    assert (first != augment(images, (step,), 1, np.arange(64))).any()
    assert (first != augment(images, (step,), 0, np.arange(64), seed=1)).any()
    assert (first == augment(images, (step,), 0, np.arange(64))).all()


def test_augmented_images_are_pinned() -> None:
    result = augment(noise(64), (Crop(), Flip(), Cutout()), 2, np.arange(64))
    assert hashlib.sha256(result.tobytes()).hexdigest()[:16] == "e566ccb0290bc029"


@pytest.mark.parametrize("change", [lambda x: x * 1.5, lambda x: x / 255, lambda x: x[:, :1], lambda x: x.astype(int)])
def test_a_users_augmentation_must_return_images(change) -> None:
    class Mine(Augmentation):
        stream = 77

        def __call__(self, images, bits, fill):
            return change(images)

    with pytest.raises(ValueError, match="Mine"):
        augment(noise(3), (Mine(),), 0, np.arange(3))


def theirs(name: str, level: int, images: np.ndarray) -> tuple[float, torch.Tensor]:
    """torchvision's magnitude, and what it makes of each image."""
    transform = v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10, fill=GREY.tolist())
    levels = transform._AUGMENTATION_SPACE[name][0](10, *images.shape[2:])
    amount = 0.0 if levels is None else float(levels[level])
    done = [
        transform._apply_image_or_video_transform(image, name, amount, transform.interpolation, transform._fill)
        for image in torch.from_numpy(images)
    ]
    return amount, torch.stack(done)


@pytest.mark.parametrize("name", operations())
@pytest.mark.parametrize("size", [(32, 32), (28, 40)])
def test_autoaugment_operations_agree_with_torchvision(name: str, size: tuple[int, int]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 3, *size)).astype(np.uint8)
    levels = {level for pair in policy() for operation, _, level in pair if operation == name}
    for level in levels:
        amount, expected = theirs(name, level, images)
        ours = magnitude(name, level, size) if name != "Solarize" else magnitude(name, level, size) / 255
        assert name in ("AutoContrast", "Equalize", "Invert") or ours == amount
        made = operations()[name](torch.from_numpy(images), magnitude(name, level, size), GREY.tolist())
        assert torch.equal(made, expected)


def test_autoaugment_policy_agrees_with_torchvision() -> None:
    transform = v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10)
    assert [[(n, p, level or 0) for n, p, level in pair] for pair in transform._policies] == policy()
    signed = {name for name, (_, signed) in transform._AUGMENTATION_SPACE.items() if signed}
    assert signed & set(operations()) == SIGNED


def test_autoaugment_is_distributed_as_in_torchvision() -> None:
    image = noise(1, side=12)
    count = 1500
    ours = AutoAugment()(np.repeat(image, count, 0), random_bits(np.arange(count)), GREY)
    transform = v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10, fill=GREY.tolist())
    drawn = np.stack([transform(torch.from_numpy(image[0])).numpy() for _ in range(count)])
    seen: dict[bytes, list[int]] = {}
    for number, made in enumerate((ours, drawn)):
        for one in made:
            seen.setdefault(one.tobytes(), [0, 0])[number] += 1
    frequent = np.array([pair for pair in seen.values() if sum(pair) >= 20])
    assert len(frequent) > 15
    assert (np.abs(frequent[:, 0] - frequent[:, 1]) < 5 * np.sqrt(frequent.sum(1))).all()
    assert 0.7 < frequent.sum() / (2 * count) <= 1
