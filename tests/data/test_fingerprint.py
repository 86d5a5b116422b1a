"""Fingerprints tell whether data are still the same."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

from shortcut_snn.data import ArrayImages, ImageFolder, as_data

from .files import colour_images, write_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pixels, labels = colour_images(20)
    write_folder(tmp_path / "set", pixels[:, :8, :8], labels % 2, ["a", "b"], ("png",))
    return tmp_path / "set"


def test_image_files_are_known_by_names_sizes_and_contents(folder: Path, tmp_path: Path) -> None:
    def fingerprint(root: Path) -> str:
        return ImageFolder(root, validation=0.2).load().fingerprint()

    before = fingerprint(folder)
    shutil.copytree(folder, tmp_path / "copy")
    assert fingerprint(tmp_path / "copy") == before
    one, other = sorted((folder / "a").iterdir())[:2]
    content, state = one.read_bytes(), one.stat()
    one.write_bytes(content[:-1] + b"x")
    os.utime(one, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert fingerprint(folder) != before
    # The same contents under exchanged names.
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    assert fingerprint(folder) != before


def test_images_in_memory_are_known_by_every_pixel_and_label() -> None:
    pixels, labels = torch.zeros(30, 1, 4, 4, dtype=torch.uint8), torch.arange(30) % 2
    before = ArrayImages(pixels, labels).fingerprint()
    changed = pixels.clone()
    changed[17, 0, 3, 3] = 1
    assert ArrayImages(pixels, labels).fingerprint() == before
    assert ArrayImages(changed, labels).fingerprint() != before
    assert ArrayImages(pixels, 1 - labels).fingerprint() != before


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
    samples = [
        torch.ones(2), np.float32(3), "a", {"a": [1, None]}, b"", (True, 2.5), torch.zeros(0),
        torch.tensor(1).bfloat16(),
    ]  # fmt: skip
    assert fingerprint_of(*samples) == fingerprint_of(*samples)
    assert len({fingerprint_of(sample) for sample in samples}) == len(samples)
    assert fingerprint_of(*samples, object()) == fingerprint_of(np.array([{}])) == ""
    # y[:, None] of numpy gives an axis of one entry with any stride.
    assert fingerprint_of(torch.from_numpy(np.zeros(3, "f4")[:, None])[0]) == fingerprint_of(torch.zeros(1))


class Clock(Dataset[torch.Tensor]):
    """Samples that differ in every call, whatever is seeded."""

    def __init__(self) -> None:
        self.drawn = 0

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> torch.Tensor:
        self.drawn += 1
        return torch.tensor(float(self.drawn))


def test_samples_that_always_differ_have_no_fingerprint() -> None:
    assert as_data((Clock(), Clock())).fingerprint() == ""
    noise = TensorDataset(torch.rand(4, 1, 4, 4))
    assert as_data((noise, noise)).fingerprint() != ""
