import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from shortcut_snn.data import ImageArchive, ImageData

from .files import NAMES, write_npz

Colour = tuple[np.ndarray, np.ndarray]


def read(path: Path) -> ImageData:
    return ImageArchive(path, validation=0).load()


def parts(colour: Colour, count: int = 40) -> dict[str, np.ndarray]:
    images, labels = colour
    return {
        "x_train": images[:count],
        "y_train": labels[:count],
        "x_test": images[count : 2 * count],
        "y_test": labels[count : 2 * count],
    }


@pytest.mark.parametrize("layout", ["channels last", "channels first", "float32", "float64", "compressed"])
def test_every_layout_gives_the_same_images(colour: Colour, tmp_path: Path, layout: str) -> None:
    arrays = parts(colour)
    expected = arrays["x_train"].transpose(0, 3, 1, 2)
    for key in ("x_train", "x_test"):
        if layout == "channels first":
            arrays[key] = arrays[key].transpose(0, 3, 1, 2)
        elif layout.startswith("float"):
            arrays[key] = (arrays[key] / 255).astype(layout)
    path = tmp_path / "set.npz"
    np.savez_compressed(path, **arrays) if layout == "compressed" else np.savez(path, **arrays)
    data = read(path)
    assert (data.train.shape, len(data.test)) == ((3, 32, 32), 40)
    assert (data.train.fetch(range(40)).numpy() == expected).all()
    assert data.train.labels.tolist() == colour[1][:40].tolist()
    assert data.classes == [str(i) for i in range(10)]


def test_grey_images_need_no_channel_axis(colour: Colour, tmp_path: Path) -> None:
    arrays = parts(colour)
    grey = {key: value[..., 0] if key.startswith("x") else value for key, value in arrays.items()}
    data = read(write_npz(tmp_path / "grey.npz", **grey))
    assert data.train.shape == (1, 32, 32)
    assert (data.train.fetch([3])[0, 0].numpy() == arrays["x_train"][3, :, :, 0]).all()


def test_autoaugment_of_four_channels_is_refused(colour: Colour, tmp_path: Path) -> None:
    arrays = parts(colour)
    for key in ("x_train", "x_test"):
        arrays[key] = arrays[key].transpose(0, 3, 1, 2)[:, [0, 1, 2, 0]]
    path = write_npz(tmp_path / "four.npz", **arrays)
    with pytest.raises(ValueError, match="AutoAugment takes images of 1 or 3 channels, and these have 4"):
        ImageArchive(path, augment=("autoaugment",)).load()


def test_labels_may_be_a_column_and_classes_may_have_names(colour: Colour, tmp_path: Path) -> None:
    arrays = parts(colour)
    arrays["y_train"] = arrays["y_train"][:, None].astype(np.uint8)
    data = read(write_npz(tmp_path / "set.npz", **arrays, class_names=np.array(NAMES)))
    assert data.classes == NAMES
    assert data.train.labels.dtype == torch.int64


@pytest.mark.parametrize(
    ("changes", "keyword"),
    [
        ({"x_train": np.zeros((40, 3, 32, 3), np.uint8)}, "x_train .*exactly one"),
        ({"x_train": np.zeros((40, 1024), np.uint8)}, r"x_train .*\[40, 1024\]"),
        ({"x_train": np.zeros((40, 32, 32, 3), np.int64)}, "x_train .*int64"),
        ({"x_test": np.full((40, 32, 32, 3), 255.0)}, "x_test .*float .* from 255 to 255.* divide 0..255 by 255"),
        ({"x_test": np.full((40, 32, 32, 3), np.nan)}, "x_test .*float .* from nan to nan.* replace NaN"),
        ({"x_test": np.full((40, 32, 32, 3), -0.5)}, r"x_test .*float .* from -0\.5 to -0\.5"),
        ({"y_test": np.array([12] * 40)}, "no training image has label 10 .* highest is 12, in the test labels"),
        ({"class_names": np.array(NAMES[:9])}, "training labels must be 0 to 8 for 9 classes, got 9: .*class_names"),
        ({"x_test": np.zeros((40, 28, 28), np.uint8)}, "test images"),
        ({"y_train": np.zeros(40)}, "y_train .*float64"),
        ({"y_train": np.zeros((40, 10), np.int64)}, "y_train"),
        ({"y_train": np.zeros(39, np.int64)}, "39 labels"),
        ({"y_train": np.arange(40) % 10 + 1, "y_test": np.arange(40) % 10 + 1}, "begin at 1.*subtract 1"),
        ({"y_test": None, "x_test": None}, "x_test, y_test"),
        ({"y_test": np.array([None] * 40)}, "Object arrays"),
        ({"class_names": np.array(["same"] * 10)}, "class_names"),
        ({"x_val": np.zeros((40, 28, 28), np.uint8)}, "y_val"),
    ],
)
def test_arrays_that_do_not_fit_are_named(
    colour: Colour, tmp_path: Path, changes: dict[str, np.ndarray | None], keyword: str
) -> None:
    arrays = {key: value for key, value in (parts(colour) | changes).items() if value is not None}
    path = write_npz(tmp_path / "set.npz", **arrays)
    with pytest.raises(ValueError, match=keyword) as caught:
        read(path)
    assert str(path) in str(caught.value)


def test_a_file_cut_anywhere_is_refused_by_name(colour: Colour, tmp_path: Path) -> None:
    path = write_npz(tmp_path / "cut.npz", **parts(colour, 20))
    whole = path.read_bytes()
    for length in [0, 1, 3, 4, 30, *range(100, len(whole), len(whole) // 25), len(whole) - 22, len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=f"^{path} is not a readable") as caught:
            read(path)
        assert "\n" not in str(caught.value)


def test_a_folder_in_place_of_an_archive_names_the_other_kind(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=rf"{tmp_path} is a folder; set data\.kind to folder or events"):
        read(tmp_path)


def test_foreign_files_are_refused(colour: Colour, tmp_path: Path) -> None:
    single, other, text = tmp_path / "single.npy", tmp_path / "other.npz", tmp_path / "text.npz"
    np.save(single, np.zeros((4, 4)))
    with zipfile.ZipFile(other, "w") as file:
        file.writestr("readme.txt", "no arrays")
    text.write_text("x_train = 1\n")
    twice = shutil.copy(write_npz(tmp_path / "set.npz", **parts(colour)), tmp_path / "twice.npz")
    with zipfile.ZipFile(twice, "a") as file, pytest.warns(UserWarning, match="Duplicate name"):
        file.writestr("y_test.npy", file.read("y_train.npy"))
    unreadable = "is not a readable"
    for path, reason in (
        (single, unreadable), (other, "lacks x_train"), (text, unreadable), (twice, "two arrays with the same name")
    ):  # fmt: skip
        with pytest.raises(ValueError, match=reason) as caught:
            read(path)
        assert str(path) in str(caught.value)
        # numpy's advice for a text is to trust it.
        assert "unsafe" not in str(caught.value)


def test_an_archives_own_validation_part_is_used(colour: Colour, tmp_path: Path) -> None:
    arrays, more = parts(colour), {"x_val": colour[0][80:100], "y_val": colour[1][80:100]}
    data = ImageArchive(write_npz(tmp_path / "set.npz", **arrays, **more)).load()
    assert (len(data.train), len(data.validation), len(data.test)) == (40, 20, 40)
    assert (data.validation.fetch([3])[0].numpy() == colour[0][83].transpose(2, 0, 1)).all()
