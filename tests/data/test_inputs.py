"""Single files become what the same files are in a data set."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from shortcut_snn.data import CIFAR10DVS, EventFolder, ImageFolder
from shortcut_snn.data.inputs import InputFiles
from shortcut_snn.data.reading import DataFileError

from .events.recordings import nmnist, structured, write_cifar10dvs

GREY = np.random.default_rng(0).integers(0, 256, (9, 12), np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (9, 12, 3), np.uint8)


def images(channels: int = 3, size: tuple[int, int] = (6, 6)) -> InputFiles:
    return InputFiles({"kind": "static", "channels": channels, "image_size": list(size)}, time_steps=2)


def test_images_are_resized_as_in_a_folder(tmp_path: Path) -> None:
    for name, seed in (("cat", 0), ("dog", 1)):
        (tmp_path / name).mkdir()
        for number in range(6):
            pixels = np.random.default_rng([seed, number]).integers(0, 256, (14 + number, 11, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    data = ImageFolder(tmp_path, image_size=7, validation=0).load()
    files = InputFiles(data.description, time_steps=2)
    for place, path in enumerate(data.test.paths):
        assert torch.equal(files.read(Path(path))[0], data.test[place][0])


def test_grey_levels_are_kept_and_colours_weighted(tmp_path: Path) -> None:
    palette = Image.fromarray(GREY).convert("P")
    for name, image in {"grey.png": Image.fromarray(GREY), "same.png": Image.fromarray(GREY).convert("RGBA"),
                        "palette.png": palette, "palette.gif": palette}.items():  # fmt: skip
        image.save(tmp_path / name)
        assert (images(1, GREY.shape).read(tmp_path / name)[0].numpy() == GREY).all(), name
    Image.fromarray(COLOUR).save(tmp_path / "colour.png")
    with pytest.warns(UserWarning, match="converted to grey"):
        read = images(1, GREY.shape).read(tmp_path / "colour.png")[0]
    expected = COLOUR @ np.array([0.2989, 0.587, 0.114])
    assert np.abs(read[0].numpy() - expected).max() <= 1
    assert (images(3, GREY.shape).read(tmp_path / "grey.png")[0].numpy() == GREY).all()


@pytest.mark.parametrize("size", [(6, 6), (4, 9), (12, 5), (20, 30)])
def test_images_of_any_size_fit(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.fromarray(COLOUR).save(tmp_path / "image.jpg")
    assert images(3, size).read(tmp_path / "image.jpg").shape == (1, 3, *size)


@pytest.mark.parametrize("slicing", ["time", "count"])
def test_recordings_become_the_frames_of_their_set(tmp_path: Path, slicing: str) -> None:
    samples, labels = nmnist(20)
    for number, (sample, label) in enumerate(zip(samples, labels, strict=True)):
        folder = tmp_path / "set" / str(label % 2)
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{number:02}.npy", structured(sample))
    data = EventFolder(
        tmp_path / "set", sensor=(34, 34), size=12, slicing=slicing, cache="off", validation=0
    ).load(time_steps=3)  # fmt: skip
    files = InputFiles(data.description, time_steps=3)
    (sample,) = files.paths(tmp_path / "set" / data.test.names()[0])
    (frames,) = files.read(sample)
    assert torch.equal(frames, data.test[0][0])
    assert (frames.dtype, frames.shape) == (torch.uint8, (3, 2, 12, 12))


@pytest.mark.filterwarnings("ignore:.* recordings of CIFAR10-DVS's")
@pytest.mark.parametrize("kind", ["cifar10dvs", "events"])
def test_turned_recordings_are_read_as_in_their_set(tmp_path: Path, kind: str) -> None:
    root, cache = write_cifar10dvs(tmp_path / "set"), str(tmp_path / "frames")
    official = CIFAR10DVS(root, cache=cache, validation=0).load(time_steps=2)
    own = EventFolder(root, sensor=(128, 128), cache=cache, validation=0).load(time_steps=2)
    data = official if kind == "cifar10dvs" else own
    assert data.description["turned"] == (kind == "cifar10dvs")
    # The cache, which both share, tells them apart.
    for each in (official, own, official):
        name = each.test.names()[0]
        frames = InputFiles(data.description, time_steps=2).read(root / name)[0]
        assert torch.equal(frames, each.test[0][0] if each is data else each.test[0][0].transpose(-2, -1))


def test_folders_give_visible_files_of_the_right_type(tmp_path: Path) -> None:
    for name in ("b.png", "a.jpg", ".hidden.png", "notes.txt", "below/c.PNG", ".cache/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    paths = [path.relative_to(tmp_path).as_posix() for path in images().paths(tmp_path)]
    assert paths == ["a.jpg", "b.png", "below/c.PNG"]
    assert images().paths(tmp_path / "notes.txt") == [tmp_path / "notes.txt"]


def test_linked_folders_are_read_once(tmp_path: Path) -> None:
    for name in ("photos/a.png", "disk/b.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    (tmp_path / "photos" / "more").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "back").symlink_to(tmp_path / "photos")
    paths = [path.relative_to(tmp_path).as_posix() for path in images().paths(tmp_path / "photos")]
    assert paths == ["photos/a.png", "photos/more/b.png"]


def test_files_that_cannot_be_used_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    Image.fromarray(COLOUR).save(tmp_path / "good.tif")
    (tmp_path / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing at all")
    (tmp_path / "events.aedat4").write_bytes(b"#")
    events = InputFiles({"kind": "events", "image_size": [8, 8], "sensor": [34, 34], "slicing": "time"}, 3)
    monkeypatch.setitem(sys.modules, "aedat", None)
    for files, name, keyword in [
        (images(), "cut.png", "cut.png is damaged"),
        (images(), "good.tif", "its extension is none of .gif, .jpeg, .jpg, .png, .webp; convert it"),
        (images(), "gone.png", "gone.png"),
        (images(), "empty", "no images"),
        (events, "cut.png", "cut.png is not a recording"),
        (events, "empty", "no recordings"),
        (events, "events.aedat4", "pip install"),
    ]:
        with pytest.raises(DataFileError, match=keyword):
            [files.read(path) for path in files.paths(tmp_path / name)]


def test_frames_that_no_reader_made_are_refused() -> None:
    with pytest.raises(ValueError, match="pass such frames to its predict"):
        InputFiles({"kind": "events", "channels": 2, "image_size": [8, 8]}, 3)


def test_images_of_other_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="4 channels"):
        images(4)
