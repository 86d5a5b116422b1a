from pathlib import Path

import numpy as np
import pytest
import torch

from shortcut_snn.data import ImageArchive

from .files import write_npz


def archive(path: Path, y_train: list[int], y_test: list[int], **more: np.ndarray) -> str:
    """Every image's colour is its number, training first."""
    colours = np.arange(len(y_train) + len(y_test), dtype=np.uint8)[:, None, None] * np.ones((4, 4), np.uint8)
    arrays = {"x_train": colours[: len(y_train)], "x_test": colours[len(y_train) :]}
    labels = {"y_train": np.array(y_train, np.int64), "y_test": np.array(y_test, np.int64)}
    return str(write_npz(path / "set.npz", **arrays, **labels, **more))


def colours(images: torch.utils.data.Dataset[tuple[torch.Tensor, int]]) -> list[int]:
    return [int(images[i][0][0, 0, 0]) for i in range(len(images))]


def test_limits_take_the_first_of_each_class(tmp_path: Path) -> None:
    root = archive(tmp_path, [0, 0, 0, 0, 1, 1, 1, 1], [0, 0, 0, 1, 1])
    data = ImageArchive(root, validation=0, train_limit=4, test_limit=3).load()
    assert colours(data.train) == [0, 1, 4, 5]
    assert colours(data.test) == [8, 9, 11]
    assert len(ImageArchive(root, train_limit=1000, validation=0).load().train) == 8


def test_validation_comes_out_of_the_limited_training_set(tmp_path: Path) -> None:
    root = archive(tmp_path, [0, 1] * 20, [0, 1])
    data = ImageArchive(root, train_limit=20, validation=0.2).load()
    assert sorted(colours(data.train) + colours(data.validation)) == list(range(20))
    assert torch.bincount(data.validation.labels).tolist() == [2, 2]


def test_no_validation(tmp_path: Path) -> None:
    data = ImageArchive(archive(tmp_path, [0, 1], [1, 0]), validation=0).load()
    assert len(data.validation) == 0
    assert data.validation.shape == data.train.shape


@pytest.mark.parametrize(
    ("y_train", "y_test", "message"),
    [
        ([], [0, 1], "set.npz: the training set is empty"),
        ([0, 1], [], "set.npz: the test set is empty"),
        ([0, 0, 0], [0, 0], "set.npz: at least 2 classes are needed, found 1"),
        ([-1, 0, 1], [0, 1], "set.npz: training labels must be 0 to 1 for 2 classes, found -1"),
        ([0, 2, 0], [0, 2], r"set.npz: no training image has label 1 \(class '1'\); labels must be 0 to 2"),
        ([1, 2, 1], [1, 2], r"no training image has label 0 \(class '0'\)"),
        ([0, 1, 0], [0, 2], r"no training image has label 2 \(class '2'\) although the test set has it"),
        ([0, 1, 0], [0, 900], "set.npz: labels must be 0 to K - 1 for K classes, found 900"),
        ([0, 0, 1], [0, 1], r"class '1' has too few samples \(1\) to hold out 0.1 of them as validation data"),
    ],
)
def test_labels_that_cannot_be_trained_on(tmp_path: Path, y_train: list[int], y_test: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        ImageArchive(archive(tmp_path, y_train, y_test)).load()
    assert "\n" not in str(caught.value)


def test_labels_beyond_the_named_classes(tmp_path: Path) -> None:
    root = archive(tmp_path, [0, 1, 2], [0, 1], class_names=np.array(["cat", "dog"]))
    with pytest.raises(ValueError, match="training labels must be 0 to 1 for 2 classes, found 2"):
        ImageArchive(root).load()
    root = archive(tmp_path, [0, 1, 0], [0, 1], class_names=np.array(["cat", "dog", "emu"]))
    with pytest.raises(ValueError, match=r"no training image has label 2 \(class 'emu'\)"):
        ImageArchive(root).load()


@pytest.mark.parametrize("wrong", [7, -100])
def test_labels_of_the_validation_part_are_checked_too(tmp_path: Path, wrong: int) -> None:
    part = {"class_names": np.array(["cat", "dog"]), "x_val": np.zeros((2, 4, 4), np.uint8)}
    root = archive(tmp_path, [0, 1], [0, 1], y_val=np.array([1, wrong]), **part)
    with pytest.raises(ValueError, match=f"validation labels must be 0 to 1 for 2 classes, found {wrong}"):
        ImageArchive(root).load()
    part["x_val"] = part["x_val"][:0]
    root = archive(tmp_path, [0, 1], [0, 1], y_val=np.array([], np.int64), **part)
    assert len(ImageArchive(root).load().validation) == 0


def test_a_limit_below_the_number_of_classes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data.train_limit: at least one image for each of the 2 classes"):
        ImageArchive(archive(tmp_path, [0, 1], [0, 1]), train_limit=1).load()
