"""The options of data sets, in recipes and in Python."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shortcut_snn import components
from shortcut_snn.components.entries import read, write
from shortcut_snn.data import CIFAR10, CIFAR100, Digits, EventFolder, ImageArchive
from shortcut_snn.data.images.augmentation import Crop, Cutout, Flip, Roll


def read_data(**entries: Any) -> Any:
    return read(components.data, entries, "data")


NMNIST = {"kind": "nmnist", "root": "x"}


@pytest.mark.parametrize(
    ("entries", "keyword"),
    [
        ({"kind": "cifar"}, "data.kind: .*'cifar'"),
        ({"kind": "cifar10"}, "data.root: cifar10 .* cifar-10-batches-py"),
        ({"kind": "npz", "root": ""}, "root: npz"),
        ({"kind": "digits", "root": "x"}, "data.root"),
        ({"kind": "digits", "image_size": 32}, "data.image_size"),
        ({"kind": "folder", "root": "x", "image_size": 0}, "data.image_size .* greater than or equal to 1, got 0"),
        ({"kind": "digits", "validation": 1.0}, "data.validation .* less than 1, got 1.0"),
        ({"kind": "digits", "validation": float("nan")}, "data.validation"),
        ({"kind": "digits", "augment": ["crop", "mixup"]}, r"data.augment\[1\].kind: unknown augmentation 'mixup'"),
        ({"kind": "digits", "augment": [{"kind": "crop", "padding": 2}]}, r"data.augment\[0\].padding .* got 2"),
        ({"kind": "digits", "train_limit": 0}, "data.train_limit .* greater than or equal to 1"),
        ({"kind": "digits", "batch_size": 2.5}, "data.batch_size should be a valid integer, got 2.5"),
        ({"kind": "nmnist"}, "root: nmnist"),
        ({"kind": "digits", "size": 8}, "data.size"),
        ({**NMNIST, "augment": ["autoaugment"]}, "augment: AutoAugment"),
        ({**NMNIST, "sensor": [34, 34]}, "data.sensor"),
        ({**NMNIST, "slicing": "space"}, "data.slicing .* 'time' or 'count', got 'space'"),
        ({**NMNIST, "cache": ""}, "data.cache .* at least 1 character"),
        ({**NMNIST, "folds": 1}, "folds: .* got 1"),
        ({**NMNIST, "folds": 5, "fold": 5}, "fold: must be 0 to 4 for 5 folds, got 5"),
        ({**NMNIST, "fold": 1}, "fold: must be 0 without folds, got 1"),
        ({"kind": "events", "root": "x"}, "sensor"),
        ({"kind": "events", "root": "x", "sensor": [0, 4]}, r"data.sensor\[0\] .* greater than or equal to 1"),
    ],
)
def test_wrong_entries_are_named(entries: dict[str, Any], keyword: str) -> None:
    with pytest.raises(ValueError, match=keyword) as caught:
        read_data(**entries)
    assert str(caught.value).startswith("data")


def test_fields_are_checked_in_python_too() -> None:
    with pytest.raises(ValueError, match=r"^batch_size .* greater than or equal to 1, got 0"):
        Digits(batch_size=0)
    with pytest.raises(ValueError, match=r"^padding .* greater than 0, got 0"):
        Crop(padding=0)
    with pytest.raises(ValueError, match=r"^augment\[0\] .* got 3"):
        Digits(augment=(3,))


def test_paths_lists_and_names_are_converted(tmp_path: Path) -> None:
    sensor: Any = [260, 346]
    made = EventFolder(tmp_path, sensor=sensor, augment=("flip", {"kind": "roll", "pixels": 2}))  # type: ignore[arg-type]
    assert (made.root, made.sensor, made.augment) == (str(tmp_path), (260, 346), (Flip(), Roll(2)))


def test_default_augmentations_and_their_order() -> None:
    assert Digits().augmentations == (Crop(),)
    assert CIFAR10("x").augmentations == CIFAR100("x").augmentations == (Crop(), Flip())
    assert ImageArchive("x").augmentations == ()
    assert EventFolder("x", sensor=(4, 4)).augmentations == ()
    assert CIFAR100("x", augment=()).augmentations == ()
    assert read_data(kind="digits", augment=["cutout", "crop"]).augmentations == (Cutout(), Crop())


def test_a_set_is_written_and_read_back() -> None:
    made = read_data(
        kind="events_npz", root="x", size=17, folds=5, fold=2, augment=["flip", {"kind": "crop", "padding": 0.25}]
    )
    written = write(made)
    assert (written["kind"], written["sensor"], written["augment"][1]) == (
        "events_npz", [34, 34], {"kind": "crop", "padding": 0.25}
    )  # fmt: skip
    assert read_data(**written) == made


def test_a_users_augmentation_is_a_class_or_a_function(forgotten: None) -> None:
    @components.augmentation("test_negative")
    @dataclass(frozen=True)
    class Negative:
        share: float = 0.5

        def __call__(self, images: np.ndarray, bits: np.ndarray, fill: np.ndarray) -> np.ndarray:
            chosen = (bits >> np.uint64(11)) * 2.0**-53 < self.share
            return np.where(chosen[:, None, None, None], 255 - images, images)

    @components.augmentation("test_darker")
    def darker(images, bits, fill, *, by=2):  # type: ignore[no-untyped-def]
        return images // by

    made = read_data(
        kind="digits", augment=[{"kind": "test_negative", "share": 0.9}, "test_darker"], batch_size=2000
    ).load()
    images = next(iter(made.loaders(0).train))[0]
    plain = read_data(kind="digits", augment=[], batch_size=2000).load()
    before = next(iter(plain.loaders(0).train))[0]
    negative = ((255 - before) // 2 == images).flatten(1).all(1)
    same = (before // 2 == images).flatten(1).all(1)
    assert bool((negative ^ same).all())
    assert 0.85 < negative.float().mean() < 0.95
