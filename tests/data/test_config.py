import subprocess
import sys
from typing import Any

import pytest

from shortcut_snn import data
from shortcut_snn.data import DataConfig, EventConfig


def test_importing_the_package_loads_no_torch() -> None:
    code = (
        "import sys, shortcut_snn.data; shortcut_snn.data.DataConfig();"
        "sys.exit(any(name in sys.modules for name in ('torch', 'torchvision', 'numpy', 'sklearn')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_public_name_is_there() -> None:
    for name in data.__all__:
        assert getattr(data, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = data.nothing


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "cifar"}, "data.name: unknown data set 'cifar'; use one of digits, cifar10, cifar100, folder, npz"),
        ({"name": "cifar10"}, "data.root: cifar10 needs the folder .* cifar-10-batches-py"),
        ({"name": "folder"}, "data.root: folder needs the folder with train/ and test/"),
        ({"name": "npz", "root": ""}, "data.root: npz needs the path of a file with x_train"),
        ({"image_size": 32}, "data.image_size: only a folder's images are resized, not those of digits"),
        ({"name": "folder", "root": "x", "image_size": 0}, "data.image_size: at least 1 is needed, got 0"),
        ({"validation": 1.0}, "data.validation: a fraction from 0 to below 1 is needed, got 1.0"),
        ({"validation": -0.1}, "data.validation"),
        ({"validation": float("nan")}, "data.validation"),
        ({"augment": ("crop", "mixup")}, "data.augment: unknown augmentation 'mixup'; use any of resized_crop, crop"),
        ({"train_limit": 0}, "data.train_limit: at least 1 is needed, got 0"),
        ({"test_limit": -5}, "data.test_limit: at least 1 is needed, got -5"),
        ({"batch_size": 0}, "data.batch_size: at least 1 is needed, got 0"),
        ({"workers": -1}, "data.workers: 0 or more is needed, got -1"),
        ({"seed": -1}, "data.seed: 0 or more is needed, got -1"),
        ({"name": "nmnist"}, "data.root: nmnist needs the folder that holds"),
        ({"name": "nmnist_npz"}, "data.root: nmnist_npz needs the path of a file with x, y, p, t, offsets"),
        ({"events": EventConfig(size=8)}, "data.events: only recordings of event cameras have these, not digits"),
        ({"name": "nmnist", "root": "x", "image_size": 8}, "data.image_size: only a folder's images are resized"),
        ({"name": "events", "root": "x", "augment": ("autoaugment",)}, "data.augment: autoaugment is for images"),
        (
            {"name": "nmnist", "root": "x", "events": EventConfig(sensor=(34, 34))},
            "data.events.sensor: the camera of nmnist is known; leave it out",
        ),
    ],
)
def test_a_field_out_of_range_is_named_in_one_line(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        DataConfig(**fields)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"slicing": "space"}, "data.events.slicing: time or count is needed, got 'space'"),
        ({"size": 0}, "data.events.size: at least 1 is needed, got 0"),
        ({"sensor": (0, 4)}, r"data.events.sensor: height and width from 1 to 8192 are needed, got \(0, 4\)"),
        ({"cache": ""}, "data.events.cache: a folder or off is needed, got an empty name"),
        ({"folds": 1}, "data.events.folds: 0 or at least 2 are needed, got 1"),
        ({"folds": 5, "fold": 5}, "data.events.fold: must be 0 to 4 for 5 folds, got 5"),
        ({"fold": 1}, "data.events.fold: must be 0 without folds, got 1"),
    ],
)
def test_an_events_field_out_of_range_is_named_in_one_line(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        EventConfig(**fields)
    assert "\n" not in str(caught.value)


def test_augmentations_default_to_the_sets_own_and_keep_one_order() -> None:
    assert DataConfig().augmentations == ("crop",)
    assert DataConfig("cifar10", "x").augmentations == ("crop", "flip")
    assert DataConfig("npz", "x").augmentations == ()
    assert DataConfig("cifar10dvs", "x").augmentations == ("flip", "roll")
    assert DataConfig("dvsgesture", "x").augmentations == ("roll",)
    assert DataConfig("events", "x").augmentations == ()
    assert DataConfig("cifar100", "x", augment=()).augmentations == ()
    assert DataConfig(augment=("cutout", "flip", "crop", "flip")).augmentations == ("crop", "flip", "cutout")
