"""ImageNet's training crop, drawn again from (seed, epoch, index)."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from shortcut_snn.data import CIFAR10, ImageFolder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of three images, 60x40 pixels, whose colours tell a pixel's row and column."""
    rows, columns = np.mgrid[:40, :60].astype(np.uint8)
    for label, name in enumerate("ab"):
        for part in ("train", "val"):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(3):
                pixels = np.stack([rows * 6, columns * 4, np.full_like(rows, label * 3 + number)], 2)
                Image.fromarray(pixels).save(tmp_path / part / name / f"{number}.png")
    return tmp_path


def config(folder: Path, **fields) -> ImageFolder:
    settings = {"image_size": 16, "augment": ("resized_crop",), "validation": 0.0, "batch_size": 2} | fields
    return ImageFolder(folder, **settings)


def batches(folder: Path, seed: int = 0, epoch: int = 0, **fields) -> dict[int, torch.Tensor]:
    """Training images of an epoch by the number in their blue channel."""
    loader = config(folder, **fields).load().loaders(seed).train
    loader.sampler.set_epoch(epoch)
    images = torch.cat([images for images, _ in loader])
    return {int(image[2, 0, 0]): image for image in images}


def test_a_training_image_is_a_part_of_its_file(folder: Path) -> None:
    images = batches(folder)
    assert sorted(images) == list(range(6))
    for image in images.values():
        assert image.shape == (3, 16, 16)
        red, green = image[0].float() / 6, image[1].float() / 4
        # Rows and columns grow as they do in the file, at the rate of the part's size.
        assert (red.diff(dim=0) >= -0.2).all()
        assert (green.diff(dim=1) >= -0.3).all()
        part = (red[-1, 8] - red[0, 8]).item() * (green[8, -1] - green[8, 0]).item() / (40 * 60)
        assert 0.03 < part <= 1


def test_a_crop_depends_on_seed_epoch_and_index_alone(folder: Path) -> None:
    first = batches(folder)
    for same in (batches(folder), batches(folder, batch_size=6)):
        assert all(torch.equal(first[number], same[number]) for number in first)
    for other in (batches(folder, seed=1), batches(folder, epoch=1)):
        assert any(not torch.equal(first[number], other[number]) for number in first)


@pytest.mark.parametrize(
    "make",
    [
        lambda: CIFAR10("x", augment=("resized_crop",)),
        lambda: ImageFolder("x", augment=("resized_crop",)),
        lambda: ImageFolder("x", image_size=8, augment=("flip", "resized_crop")),
    ],
)
def test_it_needs_a_folder_and_a_size_and_comes_first(make) -> None:
    with pytest.raises(ValueError, match=r"^augment: ResizedCrop"):
        make()
