import hashlib

import numpy as np
import torch
from sklearn.datasets import load_digits

from shortcut_snn.data import DataConfig, ImageData, load


def keys(data: ImageData) -> list[bytes]:
    parts = (data.train, data.validation, data.test)
    return [hashlib.sha256(part.fetch(range(len(part))).numpy().tobytes()).digest() for part in parts]


def test_digits_are_scikit_learns_in_three_parts() -> None:
    data = load(DataConfig())
    parts = (data.train, data.validation, data.test)
    assert sum(len(part) for part in parts) == 1797
    assert (len(data.test), len(data.validation)) == (359, 145)
    assert (data.channels, data.image_size, data.kind) == (1, (8, 8), "static")
    assert data.class_names == [str(digit) for digit in range(10)]
    everything = torch.cat([part.fetch(range(len(part))) for part in parts]).numpy().reshape(1797, 64)
    labels = torch.cat([part.labels for part in parts]).numpy()
    official = load_digits()
    pixels = np.rint(official.data * 255 / 16).astype(np.uint8)
    ours = sorted((image.tobytes(), int(label)) for image, label in zip(everything, labels, strict=True))
    assert ours == sorted((image.tobytes(), int(label)) for image, label in zip(pixels, official.target, strict=True))
    for part in parts:
        share = torch.bincount(part.labels).double() / len(part)
        assert share.sub(0.1).abs().max() < 0.01


def test_the_split_has_a_seed_of_its_own() -> None:
    assert keys(load(DataConfig())) == keys(load(DataConfig(batch_size=7, augment=())))
    assert all(a != b for a, b in zip(keys(load(DataConfig())), keys(load(DataConfig(seed=1))), strict=True))
    # The test images do not depend on how many are held out for validation.
    assert keys(load(DataConfig(validation=0.3)))[2] == keys(load(DataConfig()))[2]


def test_the_parts_are_the_same_for_ever() -> None:
    assert [key.hex()[:16] for key in keys(load(DataConfig()))] == [
        "caeac7647f1e14f9",
        "78d830cf6f050a2d",
        "f3c76d9b8f08cedc",
    ]


def test_statistics_are_those_of_the_training_part() -> None:
    data = load(DataConfig())
    pixels = data.train.fetch(range(len(data.train))).double() / 255
    np.testing.assert_allclose(data.mean[0], float(pixels.mean()), rtol=1e-12)
    np.testing.assert_allclose(data.std[0], float(pixels.std(correction=0)), rtol=1e-12)
