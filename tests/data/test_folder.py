import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from shortcut_snn.data import ImageFolder
from shortcut_snn.data.reading import DataFileError

from .files import NAMES, write_folder

Colour = tuple[np.ndarray, np.ndarray]


def config(root: Path, **fields: Any) -> ImageFolder:
    return ImageFolder(root, **fields)


@pytest.fixture
def split(colour: Colour, tmp_path: Path) -> Path:
    """train/ and test/ of PNG and JPEG files, 5 and 3 in each of 10 classes."""
    images, labels = colour
    write_folder(tmp_path / "train", images[:50], labels[:50], NAMES, ("png", "jpg"))
    write_folder(tmp_path / "test", images[50:80], labels[50:80], NAMES, ("png",))
    return tmp_path


def test_train_and_test_folders(split: Path, colour: Colour) -> None:
    data = config(split, validation=0.2).load()
    assert (len(data.train), len(data.validation), len(data.test)) == (40, 10, 30)
    assert (data.classes, data.train.shape) == (NAMES, (3, 32, 32))
    # Files come class by class, by name; PNG keeps the pixels.
    expected = colour[0][50:80].reshape(3, 10, 32, 32, 3).transpose(1, 0, 4, 2, 3).reshape(30, 3, 32, 32)
    assert (data.test.fetch(range(30)).numpy() == expected).all()
    assert data.test.labels.tolist() == sorted(colour[1][50:80].tolist())
    image, label = data.test[29]
    assert (image.dtype, image.shape, label) == (torch.uint8, (3, 32, 32), 9)
    assert all(0.3 < mean < 0.7 for mean in data.mean)


def test_class_folders_alone_get_a_seeded_test_split(colour: Colour, tmp_path: Path) -> None:
    write_folder(tmp_path, colour[0][:100], colour[1][:100], NAMES, ("png",))
    first, again, other = (config(tmp_path, seed=seed).load().test for seed in (0, 0, 1))
    assert torch.bincount(first.labels).tolist() == [2] * 10
    assert torch.equal(first.fetch(range(20)), again.fetch(range(20)))
    assert not torch.equal(first.fetch(range(20)), other.fetch(range(20)))


def test_val_is_the_validation_set(split: Path, colour: Colour) -> None:
    write_folder(split / "val", colour[0][80:100], colour[1][80:100], NAMES, ("png",))
    data = config(split).load()
    assert (len(data.train), len(data.validation), len(data.test)) == (50, 20, 30)


def test_val_without_test_is_the_test_set(split: Path) -> None:
    (split / "test").rename(split / "val")
    data = config(split, validation=0.2).load()
    assert (len(data.train), len(data.validation), len(data.test)) == (40, 10, 30)


def test_images_are_resized_and_cropped(colour: Colour, tmp_path: Path) -> None:
    names = ["a", "b"]
    wide = np.zeros((20, 24, 40, 3), np.uint8)
    wide[:, :, 8:32] = colour[0][:20, :24, :24]  # black bars that a centre crop removes
    write_folder(tmp_path, wide, np.arange(20) % 2, names, ("png", "jpg"))
    data = config(tmp_path, image_size=12).load()
    assert data.train.shape == (3, 12, 12)
    assert data.train.fetch(range(8)).shape == (8, 3, 12, 12)
    same = config(tmp_path, image_size=24, validation=0).load()
    # The first class is PNG files, which lose nothing.
    path = Path(same.train.paths[0])
    assert (same.train[0][0].numpy() == wide[int(path.stem)][:, 8:32].transpose(2, 0, 1)).all()


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "I;16", "CMYK", "1"])
def test_every_colour_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    kind = "jpg" if mode == "CMYK" else "png"
    for name, level in (("black", 0), ("white", 255)):
        (tmp_path / name).mkdir()
        pixels = np.full((8, 8), level, np.uint8)
        if mode == "I;16":
            image = Image.fromarray(pixels.astype(np.uint16) * 257)
        else:
            image = Image.fromarray(np.stack([pixels] * 3, 2)).convert(mode)
        for number in range(3):
            image.save(tmp_path / name / f"{number}.{kind}")
    data = config(tmp_path).load()
    for image, label in data.train:
        assert image.shape == (3, 8, 8)
        assert image.dtype == torch.uint8
        assert (image.int() - label * 255).abs().max() <= 1


def test_other_files_are_ignored(split: Path) -> None:
    (split / "train" / "cat" / "notes.txt").write_text("not an image")
    (split / "train" / "cat" / "._0003.png").write_bytes(b"a system's note")
    (split / "train" / ".cache").mkdir()
    (split / "train" / "cat" / "more").mkdir()
    (split / "train" / "cat" / "0003.jpg").rename(split / "train" / "cat" / "more" / "0003.jpg")
    assert len(config(split, validation=0).load().train) == 50


def png() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def jpeg() -> bytes:
    file = io.BytesIO()
    Image.open(io.BytesIO(png())).save(file, "JPEG")
    return file.getvalue()


DAMAGED = {
    "empty.png": b"",
    "half.png": png()[:1500],
    "header.png": png()[:10],
    "half.jpg": jpeg()[:500],
    "end.jpg": jpeg()[:-2],
    "text.jpg": b"not an image at all",
    "really_bmp.png": b"BM" + bytes(100),
}


# One case with a worker process, which raises errors in its own way; torch takes 5 s to end it.
@pytest.mark.parametrize(("name", "workers"), [*((name, 0) for name in DAMAGED), ("half.jpg", 1)])
def test_a_damaged_image_is_named_in_one_line(split: Path, name: str, workers: int) -> None:
    data = config(split, validation=0, workers=workers).load()
    path = Path(data.train.paths[7]).with_name(name)
    Path(data.train.paths[7]).rename(path)
    data.train.paths[7] = str(path)
    path.write_bytes(DAMAGED[name])
    with pytest.raises(DataFileError, match=f"^{path} is damaged") as caught:
        list(data.loaders(0).train)
    assert "\n" not in str(caught.value)


def test_images_of_differing_sizes_are_named(split: Path) -> None:
    data = config(split, validation=0).load()
    Image.fromarray(np.zeros((30, 32, 3), np.uint8)).save(data.train.paths[3])
    with pytest.raises(ValueError, match=r"30x32 .*data\.image_size"):
        data.train.fetch([2, 3])
    assert config(split, validation=0, image_size=16).load().train.fetch([3]).shape == (1, 3, 16, 16)
    for path in (split / "test").rglob("*.png"):
        Image.fromarray(np.zeros((28, 28, 3), np.uint8)).save(path)
    with pytest.raises(ValueError, match=r"train and test .*data\.image_size"):
        config(split).load()


def test_missing_and_empty_folders_are_named(split: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"data\.root: .*nowhere"):
        config(tmp_path / "nowhere").load()
    (tmp_path / "set.npz").touch()
    with pytest.raises(FileNotFoundError, match=r"set\.npz is a file; set data\.kind to npz or events_npz"):
        config(tmp_path / "set.npz").load()
    (tmp_path / "bare").mkdir()
    with pytest.raises(FileNotFoundError, match="bare has no class folders"):
        config(tmp_path / "bare").load()
    (tmp_path / "bare" / "cat").mkdir()
    with pytest.raises(FileNotFoundError, match="cat has no images"):
        config(tmp_path / "bare").load()
    shutil.rmtree(split / "test")
    with pytest.raises(FileNotFoundError, match="neither test nor val"):
        config(split).load()


def test_parts_with_different_classes_are_refused(split: Path) -> None:
    (split / "test" / "truck").rename(split / "test" / "lorry")
    with pytest.raises(ValueError, match="test has a class 'lorry'"):
        config(split).load()
    shutil.rmtree(split / "test" / "lorry")
    with pytest.raises(ValueError, match="train has a class 'truck'"):
        config(split).load()


def test_too_small_and_too_few_classes_are_refused(colour: Colour, tmp_path: Path) -> None:
    write_folder(tmp_path, colour[0][:11], colour[1][:11], NAMES, ("png",))
    with pytest.raises(ValueError, match="'automobile'"):
        config(tmp_path).load()
    write_folder(tmp_path / "one", colour[0][:9], np.zeros(9, int), NAMES, ("png",))
    with pytest.raises(ValueError, match="at least 2 classes"):
        config(tmp_path / "one").load()


@pytest.mark.parametrize(
    ("names", "others"),
    [(("Train", "Test"), ()), (("training", "testing"), ("Meta",)), (("train", "validation"), ("cat",))],
)
def test_parts_must_be_called_train_test_and_val(split: Path, names: tuple[str, str], others: tuple[str, ...]) -> None:
    for part, name in zip(("train", "test"), names, strict=True):
        (split / part).rename(split / f"{name}-now")
        (split / f"{name}-now").rename(split / name)
    for name in others:
        shutil.copytree(split / names[0] / "cat", split / name)
    with pytest.raises(ValueError, match=f"must call its parts train, test and val.*{names[1]}"):
        config(split).load()


def test_a_class_may_be_called_test_or_train(colour: Colour, tmp_path: Path) -> None:
    write_folder(tmp_path, colour[0][:60], colour[1][:60] % 3, ["exam", "test", "val"], ("png",))
    assert config(tmp_path).load().classes == ["exam", "test", "val"]
    (tmp_path / "test").rename(tmp_path / "Train")
    (tmp_path / "val").rename(tmp_path / "plane")
    assert config(tmp_path).load().classes == ["Train", "exam", "plane"]
