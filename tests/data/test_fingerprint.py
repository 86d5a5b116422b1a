"""Whether data are still those that they were: told from sizes, dates and contents."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from shortcut_snn.data import ArrayImages, ImageFolder, as_data
from shortcut_snn.data.fingerprint import joined, of_files, of_values, spread

from .files import colour_images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    from PIL import Image

    pixels, labels = colour_images(20)
    for number, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        path = tmp_path / "set" / "ab"[label % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[:8, :8]).save(path)
    return tmp_path / "set"


def test_files(folder: Path) -> None:
    paths = sorted(map(str, folder.rglob("*.png")))
    before = of_files(paths)
    assert of_files(paths) == before
    state = os.stat(paths[3])
    # The same size and date, another content.
    content = Path(paths[3]).read_bytes()
    Path(paths[3]).write_bytes(content[:-1] + b"x")
    os.utime(paths[3], ns=(state.st_atime_ns, state.st_mtime_ns))
    after = of_files(paths)
    assert after["contents"] != before["contents"]
    assert after["dates"] == before["dates"]
    # The same content, another date, as a copy has.
    Path(paths[3]).write_bytes(content)
    os.utime(paths[3], ns=(1, 1))
    assert of_files(paths) == before | {"dates": of_files(paths)["dates"]} != before
    assert of_files(paths[:-1])["contents"] != before["contents"]


def test_a_folder_and_its_copy(folder: Path, tmp_path: Path) -> None:
    def found(root: Path) -> dict[str, str]:
        return ImageFolder(root, validation=0.2).load().fingerprint()

    before = found(folder)
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    assert found(copy)["contents"] == before["contents"]
    # Names stay, pixels change places.
    one, other = sorted((folder / "a").iterdir())[:2]
    one.rename(folder / "kept"), other.rename(one), (folder / "kept").rename(other)
    assert found(folder)["contents"] != before["contents"]


def test_images_in_memory() -> None:
    pixels, labels = torch.zeros(30, 1, 4, 4, dtype=torch.uint8), torch.arange(30) % 2
    before = ArrayImages(pixels, labels).fingerprint()
    changed = pixels.clone()
    changed[17, 0, 3, 3] = 1
    assert ArrayImages(pixels, labels).fingerprint() == before
    assert ArrayImages(changed, labels).fingerprint() != before
    assert ArrayImages(pixels, 1 - labels).fingerprint() != before


def test_values() -> None:
    known = [
        torch.ones(2),
        np.float32(3),
        "a",
        {"a": [1, None]},
        b"",
        (True, 2.5),
        torch.zeros(0),
        torch.tensor(1).bfloat16(),
    ]
    assert of_values(known) == of_values(known)
    assert len({of_values([value])["contents"] for value in known}) == len(known)
    assert of_values([*known, object()]) == of_values([np.array([{}])]) == {}
    assert joined({"train": {"contents": "a", "dates": "b"}, "test": {"contents": "c"}}).keys() == {"contents"}
    assert joined({"train": {"contents": "a"}, "test": {}}) == {}
    assert spread(0, 5) == []


class Clock(Dataset[torch.Tensor]):
    """Never twice the same, whatever is seeded."""

    def __init__(self) -> None:
        self.drawn = 0

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> torch.Tensor:
        self.drawn += 1
        return torch.tensor(float(self.drawn))


def test_samples_that_are_never_the_same_have_none() -> None:
    assert as_data((Clock(), Clock())).fingerprint() == {}
    noise = torch.utils.data.TensorDataset(torch.rand(4, 1, 4, 4))
    assert as_data((noise, noise)).fingerprint() != {}


def test_an_axis_of_one_entry_may_have_any_stride() -> None:
    """As numpy gives the axis that ``y[:, None]`` makes."""
    one = torch.from_numpy(np.zeros(3, "f4")[:, None])[0]
    assert of_values([one]) == of_values([torch.zeros(1)])
