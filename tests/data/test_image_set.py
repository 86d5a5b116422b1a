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
    ("y_train", "y_test", "keyword"),
    [
        ([], [0, 1], "training set is empty"),
        ([0, 1], [], "test set is empty"),
        ([0, 0, 0], [0, 0], "at least 2 classes"),
        ([-1, 0, 1], [0, 1], "training labels .* -1"),
        ([0, 2, 0], [0, 2], "label 1 "),
        ([0, 1, 0], [0, 2], "label 2 "),
        ([0, 1, 0], [0, 900], "900"),
        ([0, 0, 1], [0, 1], "class '1' .*validation"),
    ],
)
def test_labels_without_samples_or_classes_are_refused(
    tmp_path: Path, y_train: list[int], y_test: list[int], keyword: str
) -> None:
    with pytest.raises(ValueError, match=keyword):
        ImageArchive(archive(tmp_path, y_train, y_test)).load()


def test_labels_must_fit_the_named_classes(tmp_path: Path) -> None:
    named = {"class_names": np.array(["cat", "dog"]), "x_val": np.zeros((2, 4, 4), np.uint8)}
    for part, changes in (("training", {"y_train": [0, 1, 2]}), ("validation", {"y_val": np.array([1, -100])})):
        labels = {"y_train": [0, 1, 0], "y_test": [0, 1], "y_val": np.array([0, 1])} | changes
        with pytest.raises(ValueError, match=f"{part} labels"):
            ImageArchive(archive(tmp_path, **labels, **named)).load()  # type: ignore[arg-type]
    root = archive(tmp_path, [0, 1, 0], [0, 1], class_names=np.array(["cat", "dog", "emu"]))
    with pytest.raises(ValueError, match="emu"):
        ImageArchive(root).load()


def test_an_empty_validation_part_is_allowed(tmp_path: Path) -> None:
    empty = {"x_val": np.zeros((0, 4, 4), np.uint8), "y_val": np.array([], np.int64)}
    assert len(ImageArchive(archive(tmp_path, [0, 1], [0, 1], **empty)).load().validation) == 0


def test_a_limit_below_the_number_of_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.train_limit"):
        ImageArchive(archive(tmp_path, [0, 1], [0, 1]), train_limit=1).load()
