import hashlib

import numpy as np
import torch
from sklearn.datasets import load_digits

from shortcut_snn.data import Digits, ImageData


def keys(data: ImageData) -> list[bytes]:
    parts = (data.train, data.validation, data.test)
    return [hashlib.sha256(part.fetch(range(len(part))).numpy().tobytes()).digest() for part in parts]


def test_digits_are_scikit_learns_in_three_parts() -> None:
    data = Digits().load()
    parts = (data.train, data.validation, data.test)
    assert sum(len(part) for part in parts) == 1797
    assert (len(data.test), len(data.validation)) == (359, 145)
    assert (data.description["channels"], data.description["image_size"], data.kind) == (1, [8, 8], "static")
    assert data.classes == [str(digit) for digit in range(10)]
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
    assert keys(Digits().load()) == keys(Digits(batch_size=7, augment=()).load())
    assert all(a != b for a, b in zip(keys(Digits().load()), keys(Digits(seed=1).load()), strict=True))
    # The test images do not depend on how many are held out for validation.
    assert keys(Digits(validation=0.3).load())[2] == keys(Digits().load())[2]


def test_the_parts_are_the_same_for_ever() -> None:
    assert [key.hex()[:16] for key in keys(Digits().load())] == [
        "caeac7647f1e14f9",
        "78d830cf6f050a2d",
        "f3c76d9b8f08cedc",
    ]
