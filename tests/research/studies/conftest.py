"""Data that the studies are tried on."""

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of four classes, told apart by which quarter is bright."""
    path = tmp_path_factory.mktemp("data") / "quarters.npz"
    rng = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 200), ("test", 40)):
        labels = np.arange(count) % 4
        images = rng.integers(0, 60, (count, 8, 8, 3), np.uint8)
        for image, label in zip(images, labels, strict=True):
            row, column = 4 * (label // 2), 4 * (label % 2)
            image[row : row + 4, column : column + 4] += 180
        arrays |= {f"x_{part}": images, f"y_{part}": labels}
    np.savez(path, **arrays)
    return path
