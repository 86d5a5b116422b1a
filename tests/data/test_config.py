import subprocess
import sys
from typing import Any

import pytest

from shortcut_snn import data
from shortcut_snn.data import DataConfig


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
        (
            {"augment": ("crop", "mixup")},
            "data.augment: unknown augmentation 'mixup'; use any of resized_crop, crop, flip",
        ),
        ({"train_limit": 0}, "data.train_limit: at least 1 is needed, got 0"),
        ({"test_limit": -5}, "data.test_limit: at least 1 is needed, got -5"),
        ({"batch_size": 0}, "data.batch_size: at least 1 is needed, got 0"),
        ({"workers": -1}, "data.workers: 0 or more is needed, got -1"),
        ({"seed": -1}, "data.seed: 0 or more is needed, got -1"),
    ],
)
def test_a_field_out_of_range_is_named_in_one_line(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        DataConfig(**fields)
    assert "\n" not in str(caught.value)


def test_augmentations_default_to_the_sets_own_and_keep_one_order() -> None:
    assert DataConfig().augmentations == ("crop",)
    assert DataConfig("cifar10", "x").augmentations == ("crop", "flip")
    assert DataConfig("npz", "x").augmentations == ()
    assert DataConfig("cifar100", "x", augment=()).augmentations == ()
    assert DataConfig(augment=("cutout", "flip", "crop", "flip")).augmentations == ("crop", "flip", "cutout")
