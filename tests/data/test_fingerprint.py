"""Fingerprints tell whether data are still the same."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from shortcut_snn.data import ImageFolder, as_data

from .files import colour_images, write_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pixels, labels = colour_images(20)
    write_folder(tmp_path / "set", pixels[:, :8, :8], labels % 2, ["a", "b"], ("png",))
    return tmp_path / "set"


def test_images_are_known_by_labels_and_pixels(folder: Path) -> None:
    def fingerprint(root: Path) -> str:
        return ImageFolder(root, validation=0.2).load().fingerprint()

    before = fingerprint(folder)
    assert fingerprint(folder) == before
    one, other = (next((folder / name).iterdir()) for name in "ab")
    one.rename(folder / "spare")
    other.rename(one)
    (folder / "spare").rename(other)
    assert fingerprint(folder) != before


class Listed(Dataset[object]):
    def __init__(self, *samples: object) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> object:
        return self.samples[index]


def fingerprint_of(*samples: object) -> str:
    loader = DataLoader(Listed(*samples), collate_fn=list)
    return as_data((loader, loader)).fingerprint()


def test_samples_of_all_usual_types_have_fingerprints() -> None:
    samples = [torch.ones(2), np.float32(3), "a", {"a": [1, None]}, b"", (True, 2.5), torch.zeros(0)]
    assert fingerprint_of(*samples) == fingerprint_of(*samples)
    assert len({fingerprint_of(sample) for sample in samples}) == len(samples)
    assert fingerprint_of(*samples, object()) == fingerprint_of(np.array([{}])) == ""
    # y[:, None] of numpy gives an axis of one entry with any stride.
    assert fingerprint_of(torch.from_numpy(np.zeros(3, "f4")[:, None])[0]) == fingerprint_of(torch.zeros(1))
