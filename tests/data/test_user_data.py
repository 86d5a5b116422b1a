"""The user's data sets and loaders: order and random transforms survive a resume bit for bit."""

import itertools
import random
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, RandomSampler, Sampler
from torchvision.transforms import v2

from shortcut_snn.data import Data, as_data

from ..stateful import Stateful
from .batches import epoch, equal


class Numbers(Dataset[tuple[Tensor, int]]):
    """Images whose first pixel is their number, changed by all three global generators."""

    classes = ("even", "odd")

    def __init__(self, count: int) -> None:
        self.count = count
        self.flip = v2.RandomHorizontalFlip()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = torch.full((1, 4, 6), float(index))
        image[0, 1:] = self.flip(torch.arange(18.0).view(3, 6))
        image[0, 2, 0], image[0, 2, 1] = random.random(), np.random.rand()
        return image + torch.rand(()) / 2, index % 2


def sets(workers: int) -> Data:
    return as_data((Numbers(26), Numbers(6), Numbers(8)), batch_size=4, workers=workers)


def given_loaders(workers: int) -> Data:
    more = {"num_workers": workers, "persistent_workers": workers > 0}
    train = DataLoader(Numbers(26), 4, shuffle=True, generator=torch.Generator(), **more)  # type: ignore[arg-type]
    with pytest.warns(match="persistent_workers, whose random state") if workers else nullcontext():
        return as_data((train, DataLoader(Numbers(6), 4), DataLoader(Numbers(8), 4)))


def plain_loaders(workers: int) -> Data:
    train = DataLoader(Numbers(26), 4, shuffle=True, num_workers=workers)
    return as_data([train, DataLoader(Numbers(6), 4), DataLoader(Numbers(8), 4)])


def batch_samplers(workers: int) -> Data:
    order = RandomSampler(Numbers(26), generator=torch.Generator())
    train = DataLoader(Numbers(26), batch_sampler=BatchSampler(order, 4, drop_last=False), num_workers=workers)
    return as_data([train, DataLoader(Numbers(6), 4), DataLoader(Numbers(8), 4)])


def stateful_loaders(workers: int) -> Data:
    return as_data((Stateful(Numbers(26), 4), DataLoader(Numbers(6), 4), DataLoader(Numbers(8), 4)))


KINDS = [sets, plain_loaders, batch_samplers, stateful_loaders]


@pytest.mark.parametrize(("make", "workers"), [*((make, 0) for make in KINDS), (sets, 2), (plain_loaders, 2)])
def test_an_epoch_resumes_after_some_batches(make: Any, workers: int) -> None:
    whole, resumed = make(workers).loaders(3), make(workers).loaders(3)
    first, second, third = (epoch(whole, number) for number in range(3))
    assert not equal(first, second)
    numbers = [sorted(int(x) for images, _ in batches for x in images[:, 0, 0, 0]) for batches in (first, second)]
    assert numbers == [list(range(26))] * 2
    if make is stateful_loaders:
        interrupted = make(workers).loaders(3)
        interrupted.train.sampler.set_epoch(1)
        list(itertools.islice(interrupted.train, 3))
        state = interrupted.train.state_dict()
    torch.manual_seed(99)
    random.seed(99)
    np.random.seed(99)
    resumed.begin(1, 3)
    if make is stateful_loaders:
        resumed.train.load_state_dict(state)
    assert equal(list(resumed.train), second[3:])
    assert equal(epoch(resumed, 2), third)
    assert not equal(epoch(make(workers).loaders(4), 1), second)


class Order(Sampler[Any]):
    """Batches of two, or single samples, in an order that depends on the epoch."""

    def __init__(self, in_batches: bool) -> None:
        self.in_batches, self.epoch = in_batches, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return 4 if self.in_batches else 8

    def __iter__(self) -> Iterator[Any]:
        order = torch.randperm(8, generator=torch.Generator().manual_seed(self.epoch))
        return iter((order.view(4, 2) if self.in_batches else order).tolist())


@pytest.mark.parametrize("sampler", [Order(in_batches=True), BatchSampler(Order(in_batches=False), 2, False)])
def test_samplers_of_batches_learn_the_epoch(sampler: Any) -> None:
    made = as_data((DataLoader(Numbers(8), batch_sampler=sampler), DataLoader(Numbers(8), 4))).loaders(0)
    for number in range(3):
        expected = torch.randperm(8, generator=torch.Generator().manual_seed(number)).tolist()
        assert [int(x) for images, _ in epoch(made, number) for x in images[:, 0, 0, 0]] == expected


@pytest.mark.parametrize("make", KINDS)
def test_training_between_batches_has_its_own_random_numbers(make: Any) -> None:
    expected = epoch(make(0).loaders(3), 0)
    torch.manual_seed(5)
    alone = [torch.rand(3) for _ in expected]
    torch.manual_seed(5)
    states = np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index, union-attr]
    drawn, batches = [], []
    for batch in make(0).loaders(3).train:
        batches.append(batch)
        drawn.append(torch.rand(3))
    assert equal(batches, expected)
    assert all(torch.equal(a, b) for a, b in zip(alone, drawn, strict=True))
    assert states == (np.random.get_state()[1].tolist(), random.getstate())  # type: ignore[index, union-attr]


@pytest.mark.parametrize("make", KINDS)
def test_evaluation_and_sample_are_deterministic(make: Any) -> None:
    data = make(0)
    made = data.loaders(3)
    assert sum(len(labels) for _, labels in made.validation) == 6
    first = list(made.test)
    # As Lightning does after two epochs of training.
    made.test.sampler.set_epoch(2)
    assert [int(x) for images, _ in first for x in images[:, 0, 0, 0]] == list(range(8))
    assert equal(first, list(made.test))
    images, _ = data.sample(5)
    assert torch.equal(images, make(2).sample(5)[0])
    numbers = images[:, 0, 0, 0].int().tolist()
    assert len(set(numbers)) == 5
    assert numbers != sorted(numbers)


def test_processes_share_data_sets_but_not_loaders() -> None:
    data = as_data((Numbers(24), Numbers(8)), batch_size=4)
    seen = [int(x) for rank in range(2) for images, _ in data.loaders(3, rank, 2).train for x in images[:, 0, 0, 0]]
    assert sorted(seen) == list(range(24))
    with pytest.raises(ValueError, match="Datasets"):
        plain_loaders(0).loaders(3, 0, 2)


def test_description_comes_from_the_data_and_the_user() -> None:
    assert sets(0).description == {"classes": ["even", "odd"], "channels": 1, "image_size": [4, 6]}
    pair = as_data((Numbers(4), Numbers(4)), description={"classes": ["a", "b"], "kind": "static"})
    assert pair.description["classes"] == ["a", "b"]
    assert pair.loaders(0).validation is None
    assert plain_loaders(0).description["channels"] == 1
    assert pair.split == ""


class Stream(IterableDataset[Tensor]):
    def __iter__(self) -> Iterator[Tensor]:
        return iter(torch.rand(6, 2))


def test_streams_come_in_loaders() -> None:
    data = as_data((DataLoader(Stream(), batch_size=2), DataLoader(Stream(), batch_size=4)))
    whole = data.loaders(0)
    assert all(torch.equal(a, b) for a, b in zip(whole.train, data.loaders(0).train, strict=True))
    assert data.sample(3).shape == (4, 2)
    assert data.fingerprint() == ""
    with pytest.raises(TypeError, match="Stream needs a __len__"):
        len(whole.train)


@pytest.mark.parametrize(
    ("source", "keyword"),
    [
        (3, "got int$"),
        (Numbers(3), "got Numbers$"),
        ((Numbers(3), DataLoader(Numbers(3))), "got Numbers, DataLoader$"),
        ([Numbers(3)] * 6, "got Numbers, Numbers, Numbers, Numbers$"),
        ((Numbers(0), Numbers(3)), "the training part has no samples"),
        ((DataLoader(Numbers(10), 32, drop_last=True), DataLoader(Numbers(3))), "no batch of its 10 samples"),
    ],
)
def test_other_sources_are_refused(source: Any, keyword: str) -> None:
    with pytest.raises(ValueError, match=keyword):
        as_data(source)
