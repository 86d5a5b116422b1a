import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shortcut_snn.data import ArrayImages, Digits, ImageData, ImageFolder
from shortcut_snn.data.images.augmentation import AutoAugment, Crop, Cutout, Flip

from .batches import epoch, equal
from .files import NAMES, write_folder

ALL = (Crop(), Flip(), AutoAugment(), Cutout())


def numbered(count: int) -> ArrayImages:
    """Images whose label is their number."""
    pixels = torch.arange(count).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    return ArrayImages(pixels, torch.arange(count))


def data_of(train: int, validation: int, test: int, **fields: Any) -> ImageData:
    parts = [numbered(count) for count in (train, validation, test)]
    return ImageData(*parts, ["a", "b"], (0.5,), (0.5,), **fields)


@pytest.fixture(scope="module", params=["memory", "files"])
def real(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ImageData:
    if request.param == "memory":
        return Digits().load()
    root = tmp_path_factory.mktemp("folder")
    images, labels = request.getfixturevalue("colour")
    write_folder(root, images[:200], labels[:200], NAMES, ("png", "jpg"))
    return ImageFolder(root).load()


def test_samples_depend_on_seed_epoch_and_index_alone(real: ImageData) -> None:
    data = replace(real, batch_size=32, augment=ALL)
    alone = data.loaders(seed=3)
    torch.manual_seed(1)
    first, second = epoch(alone, 0), epoch(alone, 1)
    assert not equal(first, second)
    torch.manual_seed(2)
    np.random.seed(2)
    with_workers = replace(data, workers=2).loaders(seed=3)
    # Not from the start, as after a resume, and backwards.
    assert equal(epoch(with_workers, 1), second)
    assert equal(epoch(with_workers, 0), first)
    assert not equal(epoch(data.loaders(seed=4), 0), first)


def test_global_generators_keep_their_states(real: ImageData) -> None:
    for workers in (0, 2):
        made = replace(real, batch_size=32, augment=ALL, workers=workers).loaders(seed=3)
        before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
        for loader in (made.train, made.validation, made.test):
            list(loader)
        after = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
        assert torch.equal(before[0], after[0])
        assert before[1:] == after[1:]


def test_samples_do_not_depend_on_batch_size_and_processes(real: ImageData) -> None:

    def samples(batch_size: int, world: int) -> dict[int, bytes]:
        found = {}
        for rank in range(world):
            made = replace(real, batch_size=batch_size, augment=ALL).loaders(3, rank, world)
            made.train.sampler.set_epoch(5)
            indices = [index for _, index in made.train.sampler]
            images = torch.cat([batch for batch, _ in made.train])
            found |= {index: image.numpy().tobytes() for index, image in zip(indices, images, strict=False)}
        return found

    # 35 and 39: no batch of 1, which would be dropped.
    whole, parts = samples(35, 1), samples(39, 2)
    assert len(whole) == len(real.train)
    assert whole == parts


def test_evaluation_is_in_order_and_not_augmented() -> None:
    data = Digits(batch_size=100, augment=ALL).load()
    made = data.loaders(seed=0)
    images, labels = (torch.cat(parts) for parts in zip(*made.test, strict=True))
    assert torch.equal(images, data.test.fetch(range(len(data.test))))
    assert torch.equal(labels, data.test.labels)
    made.test.sampler.set_epoch(4)
    assert torch.equal(next(iter(made.test))[0], images[:100])


@given(st.integers(2, 40), st.integers(1, 12), st.integers(1, 4))
def test_training_drops_nothing_but_a_last_batch_of_one(count: int, size: int, world: int) -> None:
    data = data_of(count, 0, 4, batch_size=size)
    sizes = []
    seen: list[int] = []
    for rank in range(world):
        batches = list(data.loaders(1, rank, world).train)
        sizes.append([len(labels) for _, labels in batches])
        seen += [int(label) for _, labels in batches for label in labels]
    assert all(part == sizes[0] for part in sizes)
    share = -(-count // world)
    dropped = size > 1 and share > 1 and share % size == 1
    assert sum(sizes[0]) == share - dropped
    assert 1 not in sizes[0] or size == 1 or share == 1
    if not dropped:
        assert set(seen) == set(range(count))


@given(st.integers(1, 60), st.integers(1, 12), st.integers(1, 5))
def test_evaluation_serves_every_sample_once_in_equal_batches(count: int, size: int, world: int) -> None:
    data = data_of(4, count, count, batch_size=size)
    if count < world:
        with pytest.raises(ValueError, match="too few"):
            data.loaders(1, 0, world)
        return
    made = [data.loaders(1, rank, world) for rank in range(world)]
    for part in ("validation", "test"):
        batches = [list(getattr(each, part)) for each in made]
        assert len({len(process) for process in batches}) == 1
        served = sorted(int(label) for process in batches for _, labels in process for label in labels)
        assert served == list(range(count))


def test_no_validation_means_no_loader() -> None:
    assert data_of(4, 0, 4).loaders(0).validation is None


def test_sample_is_pinned() -> None:
    data = data_of(4, 2, 50)
    images, labels = data.sample(10)
    assert labels.tolist() == [29, 17, 23, 1, 39, 28, 12, 21, 25, 46]
    assert torch.equal(images, data.test.fetch(labels))
    assert sorted(data.sample(99)[1].tolist()) == list(range(50))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_resumes_after_some_batches(workers: int) -> None:
    data = data_of(40, 0, 4, batch_size=8, augment=ALL, workers=workers)
    whole, resumed = data.loaders(3), data.loaders(3)
    expected = epoch(whole, 2)[3:], epoch(whole, 3)
    resumed.begin(2, 3)
    assert equal(list(resumed.train), expected[0])
    assert equal(epoch(resumed, 3), expected[1])
