"""The interface between data sets and training, and loaders whose samples depend on (seed, epoch, index) alone."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from .counter_random import Stream, permutation


class Loader(Protocol):
    """An iterable of batches with a length, such as a torch DataLoader."""

    def __iter__(self) -> Iterator[Any]: ...

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Loaders:
    """One loader for each part of a data set.

    Attributes:
        train: training batches. Lightning chooses the epoch through ``train.sampler.set_epoch``.
        test: every test sample once, in order.
        begin: ``begin(epoch, batches)`` skips the first ``batches`` batches of ``epoch``; all other epochs are served
            in full. Call it before the first iteration, and then ``train.load_state_dict`` if there is one.
    """

    train: Loader
    validation: Loader | None
    test: Loader
    begin: Callable[[int, int], None]

    @property
    def samples(self) -> dict[str, int]:
        """Number of samples of each part whose data set has a length."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        data_sets: dict[str, Any] = {name: getattr(loader, "dataset", None) for name, loader in parts.items()}
        return {name: len(data_set) for name, data_set in data_sets.items() if hasattr(data_set, "__len__")}


class Data(ABC):
    """A data set with a training part, a test part and perhaps a validation part."""

    @property
    @abstractmethod
    def description(self) -> dict[str, Any]:
        """Facts that networks and exported files need; JSON values only.

        Images have ``classes`` (names), ``channels``, ``image_size`` ([H, W] in pixels), ``mean`` and ``std`` (per
        channel; on the 0..1 scale for images, in events for frames) and ``kind`` ("static" or "events"). Event
        recordings add ``sensor`` ([H, W] in pixels), ``slicing``, ``turned`` (see :class:`.CIFAR10DVS`), and
        ``cut_events`` or ``cut_duration``.
        """

    @property
    def split(self) -> str:
        """The part of each sample, one line per sample; empty if the split cannot change between runs."""
        return ""

    @abstractmethod
    def loaders(self, seed: int, rank: int = 0, world: int = 1) -> Loaders:
        """Make the loaders of one process.

        Args:
            seed: seeds the order of the training samples and their augmentation.
            rank: index of this process.
            world: number of processes. Training samples are shared evenly, and a few repeat if ``world`` does not
                divide their number. Each validation and test sample is served once, in equally many batches.

        Raises:
            ValueError: a part has fewer samples than processes, or the data cannot be shared.
        """

    @abstractmethod
    def sample(self, count: int) -> Any:
        """Return one batch of at most ``count`` random test samples, the same in every run."""

    def fingerprint(self) -> str:
        """Return a hash that changes with the samples, so that a run resumes on the same data; empty if unknown."""
        return ""


class SeededSampler(Sampler[tuple[int, int]]):
    """Yield ``(epoch, index)``, the key of a sample's augmentation; of ``world`` processes, each takes its share.

    In training, a few samples are repeated so that every process has equally many. In evaluation, for which ``seed`` is
    None, each sample is served exactly once, in order, and as in epoch 0.
    """

    def __init__(self, length: int, seed: int | None, rank: int = 0, world: int = 1) -> None:
        if not 0 <= rank < world:
            raise ValueError(f"rank must be 0 to {world - 1} for {world} processes, got {rank}")
        self.length, self.seed, self.rank, self.world = length, seed, rank, world
        self.epoch = 0
        self._first = (-1, 0)

    def begin(self, epoch: int, samples: int) -> None:
        """Skip samples of this process in ``epoch``. Call it first: loader workers prefetch before the epoch is set."""
        self.epoch = epoch
        self._first = (epoch, samples)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, from 0, that the next iteration yields; Lightning calls this."""
        self.epoch = 0 if self.seed is None else epoch

    def __len__(self) -> int:
        return len(range(self.rank if self.seed is None else 0, self.length, self.world))

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch = self.epoch
        order = range(self.length)
        if self.seed is not None:
            order = permutation(self.length, self.seed, Stream.ORDER, epoch).tolist()
        first = self._first[1] if epoch == self._first[0] else 0
        for position in range(first, len(self)):
            yield epoch, order[(self.rank + position * self.world) % self.length]


SAMPLE_SEED = 0
"""Seeds :meth:`.Data.sample`, which returns the same samples in every run."""

Key = tuple[int, int]
"""The epoch and the index of a sample."""


class SeededDataset(Dataset[Any]):
    """Samples addressed by (epoch, index): the same key always gives the same sample."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitems__(self, keys: list[Key]) -> Any:
        """Return the samples as one batch."""


class SeededData(Data):
    """Data whose parts are :class:`SeededDataset`."""

    batch_size: int
    workers: int

    @abstractmethod
    def seeded(self, seed: int) -> tuple[SeededDataset, SeededDataset | None, SeededDataset]:
        """Return the training, validation and test part, whose random choices depend on ``seed``."""

    def loaders(self, seed: int, rank: int = 0, world: int = 1) -> Loaders:
        """Make the loaders of one process; see :meth:`.Data.loaders`."""
        train, validation, test = self.seeded(seed)
        sampler = SeededSampler(len(train), seed, rank, world)
        # Batch normalisation cannot learn from a single sample.
        drop_last = self.batch_size > 1 and len(sampler) > 1 and len(sampler) % self.batch_size == 1
        return Loaders(
            self._loader(train, sampler, self.batch_size, drop_last),
            None if validation is None else self._evaluation_loader(validation, rank, world),
            self._evaluation_loader(test, rank, world),
            lambda epoch, batches: sampler.begin(epoch, batches * self.batch_size),
        )

    def sample(self, count: int) -> Any:
        """Return one batch of at most ``count`` random test samples, the same in every run."""
        test = self.seeded(SAMPLE_SEED)[2]
        order = permutation(len(test), SAMPLE_SEED, Stream.SAMPLE)[:count]
        return test.__getitems__([(0, index) for index in order.tolist()])

    def _evaluation_loader(self, part: SeededDataset, rank: int, world: int) -> DataLoader[Any]:
        shortest, longer = divmod(len(part), world)
        if longer and not shortest:
            raise ValueError(f"{len(part)} samples to evaluate are too few for {world} processes")
        size = self.batch_size
        # Some processes have one sample more. It must not become a batch of its own: the other processes would never
        # reach that batch, and processes that synchronise per batch would wait for ever.
        while longer and shortest % size == 0:
            size += 1
        return self._loader(part, SeededSampler(len(part), None, rank, world), size, drop_last=False)

    def _loader(self, part: SeededDataset, sampler: SeededSampler, size: int, drop_last: bool) -> DataLoader[Any]:
        return DataLoader(
            part,
            batch_size=size,
            sampler=sampler,
            drop_last=drop_last,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            # A worker process that hangs does not block training for ever.
            timeout=600 if self.workers else 0,
            pin_memory=torch.cuda.is_available(),
            # __getitems__ returns batches already.
            collate_fn=_identity,
            # A DataLoader draws a base seed on every iteration, by default from the global generator.
            generator=torch.Generator(),
        )


def _identity(batch: Any) -> Any:
    return batch


def hash_values(values: Iterable[Any]) -> str:
    """Return a hash of tensors, arrays, numbers, strings, and lists and mappings of them; empty for other values."""
    digest = hashlib.sha256()
    try:
        for value in values:
            _update(digest, value)
    except TypeError:
        return ""
    return digest.hexdigest()


def _update(digest: Any, value: Any) -> None:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufc":
        digest.update(f"{value.dtype} {value.shape}".encode() + value.tobytes())
    elif isinstance(value, Mapping):
        _update(digest, list(value.items()))
    elif isinstance(value, list | tuple):
        digest.update(f"{len(value)}[".encode())
        for item in value:
            _update(digest, item)
    elif value is None or isinstance(value, str | bytes | int | float):
        digest.update(f"{type(value).__name__} {value!r}".encode())
    else:
        raise TypeError(f"a {type(value).__name__} has no fingerprint")
