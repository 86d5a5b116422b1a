"""Wrap the user's data sets and DataLoaders, so that the samples of a run do not depend on training."""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset, default_collate

from .._utils.markdown import printable
from .._utils.random_state import seeded
from .counter_random import Stream, evenly_spaced, permutation, random_bits
from .loading import SAMPLE_SEED, Data, Key, Loaders, SeededData, SeededDataset, hash_values


class UserLoader:
    """Wrap a DataLoader so that the random numbers of a batch belong to (seed, epoch, number of the batch).

    Training between two batches neither changes the samples nor sees their random numbers. A loader that has a state,
    such as torchdata's ``StatefulDataLoader``, lends its ``state_dict`` and ``load_state_dict``.
    """

    batch_sampler = None  # Lightning reads it.

    def __init__(self, loader: DataLoader[Any], seed: int, is_training: bool = False) -> None:
        self.loader, self.seed, self.is_training, self.epoch = loader, seed, is_training, 0
        self.dataset, self.batch_size = loader.dataset, loader.batch_size
        self._first = (0, 0)
        self.has_state = hasattr(loader, "state_dict") and hasattr(loader, "load_state_dict")
        if self.has_state:
            # Lightning writes the state of any loader with these methods into checkpoints.
            self.state_dict, self.load_state_dict = loader.state_dict, loader.load_state_dict  # type: ignore[attr-defined]

    @property
    def sampler(self) -> "UserLoader":
        """The loader itself, because Lightning calls ``sampler.set_epoch``."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, from 0, that the next iteration yields; evaluation always has the numbers of epoch 0."""
        self.epoch = epoch if self.is_training else 0

    def begin(self, epoch: int, batches: int) -> None:
        """Start with an epoch after some of its batches, where ``load_state_dict`` then restores the loader.

        A loader without a state draws these batches again, and they are dropped.
        """
        self.epoch, self._first = epoch, (epoch, batches)

    def __len__(self) -> int:
        try:
            return len(self.loader)
        except TypeError:
            name = type(self.loader.dataset).__name__
            raise TypeError(f"{name} needs a __len__ that returns its number of samples, to count epochs") from None

    def __iter__(self) -> Iterator[Any]:
        epoch, skipped = self.epoch, self._first[1] if self.epoch == self._first[0] else 0
        batch_sampler = self.loader.batch_sampler
        samplers: tuple[Any, ...] = (self.loader.sampler, batch_sampler, getattr(batch_sampler, "sampler", None))
        for sampler in samplers:
            if hasattr(sampler, "set_epoch"):
                sampler.set_epoch(epoch)
        for owner in (self.loader, *samplers):
            if isinstance(generator := getattr(owner, "generator", None), torch.Generator):
                generator.manual_seed(self._batch_seed(epoch, 0))
        with seeded(self._batch_seed(epoch, 0)):
            batches = iter(self.loader)
        number, end = skipped if self.has_state else 0, object()
        while True:
            number += 1
            with seeded(self._batch_seed(epoch, number)):
                batch = next(batches, end)
            if batch is end:
                return
            if number > skipped:
                yield batch

    def _batch_seed(self, epoch: int, number: int) -> int:
        return int(random_bits(self.seed, Stream.ORDER, epoch, number)[0]) >> 1


def as_data(
    source: Any, *, batch_size: int = 128, workers: int = 0, description: Mapping[str, Any] | None = None
) -> Data:
    """Wrap data sets or loaders as data for training.

    For data sets, the order of the training samples and the random numbers of each sample are functions of (seed,
    epoch, index). DataLoaders keep their own order. A run that resumes within an epoch draws the earlier batches of a
    loader again, unless it has ``state_dict`` and ``load_state_dict``.

    Args:
        source: a :class:`.Data`; or (train, test) or (train, validation, test), each a map-style data set or a
            DataLoader.
        batch_size: samples in a batch, per process, for data sets; loaders have their own.
        workers: loader processes, per process, for data sets.
        description: facts for networks and files; see :attr:`.Data.description`. ``classes``, ``channels`` and
            ``image_size`` are read from a data set that has them.

    Raises:
        ValueError: the source has another type, or a part has no samples.

    Example:
        >>> x, y = torch.rand(20, 3, 8, 8), torch.arange(20) % 2
        >>> data = as_data((torch.utils.data.TensorDataset(x[:16], y[:16]), torch.utils.data.TensorDataset(x, y)))
        >>> data.description
        {'channels': 3, 'image_size': [8, 8]}
        >>> [labels.shape for _, labels in data.loaders(seed=0).train]
        [torch.Size([16])]
    """
    if isinstance(source, Data):
        return source
    if isinstance(source, tuple | list) and len(source) in (2, 3):
        train, test, validation = source[0], source[-1], source[1] if len(source) == 3 else None
        named = {"training": train, "test": test} | ({} if validation is None else {"validation": validation})
        if all(isinstance(part, DataLoader) for part in named.values()):
            _check_not_empty(named)
            if train.persistent_workers:
                warnings.warn(
                    "the training loader has persistent_workers, whose random state no checkpoint holds: a resumed run "
                    "draws other random numbers; leave them out",
                    stacklevel=2,
                )
            return LoaderData(train, validation, test, _describe(train.dataset, description, _makes_batches(train)))
        if all(_is_map_style(part) for part in named.values()):
            _check_not_empty(named)
            return SampleData(train, validation, test, _describe(train, description), batch_size, workers)
    names = [type(part).__name__ for part in source] if isinstance(source, tuple | list) else [type(source).__name__]
    raise ValueError(
        "data for training is a Data, or a pair (train, test) or triple (train, validation, test) of torch Datasets "
        f"with a length or of DataLoaders, got {', '.join(names[:4])}"
    )


def _check_not_empty(parts: Mapping[str, Any]) -> None:
    for name, part in parts.items():
        if not _is_map_style(data_set := _data_set_of(part)) or len(part):
            continue
        if len(data_set):
            raise ValueError(f"the {name} loader makes no batch of its {len(data_set)} samples: set drop_last=False")
        raise ValueError(f"the {name} part has no samples{'; leave it out' if name == 'validation' else ''}")


def _is_map_style(part: Any) -> bool:
    excluded = isinstance(part, tuple | list | dict | str | torch.Tensor | DataLoader | IterableDataset)
    return not excluded and hasattr(part, "__getitem__") and hasattr(part, "__len__")


def _makes_batches(loader: DataLoader[Any]) -> bool:
    """Return whether a loader collates samples, which its data set returns one by one."""
    return _is_map_style(loader.dataset) and loader.batch_sampler is not None


def _data_set_of(part: Any) -> Any:
    return part.dataset if isinstance(part, DataLoader) else part


def _describe(data_set: Any, description: Mapping[str, Any] | None, has_samples: bool = True) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    classes = getattr(data_set, "classes", None)
    if isinstance(classes, list | tuple):
        facts["classes"] = [printable(str(name)) for name in classes]
    if has_samples and len(data_set):
        with seeded(0):
            first = data_set[0]
        image = first[0] if isinstance(first, tuple | list) and first else None
        if isinstance(image, torch.Tensor) and image.ndim == 3:
            facts |= {"channels": image.shape[0], "image_size": list(image.shape[1:])}
    return facts | dict(description or {})


class SeededSamples(SeededDataset):
    """A user's map-style data set, whose random transforms draw numbers that belong to (seed, epoch, index)."""

    def __init__(self, samples: Any, seed: int) -> None:
        self.samples, self.seed = samples, seed

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: Key) -> Any:
        with seeded(int(random_bits(self.seed, Stream.ITEM, *key)[0]) >> 1):
            return self.samples[key[1]]

    def __getitems__(self, keys: list[Key]) -> Any:
        return default_collate([self[key] for key in keys])


@dataclass(frozen=True)
class UserData(Data):
    """A user's data sets or DataLoaders, and the facts that they and the user give."""

    train: Any
    validation: Any
    test: Any
    facts: dict[str, Any]

    @property
    def description(self) -> dict[str, Any]:
        """Facts from the training set and from the user."""
        return self.facts

    def fingerprint(self) -> str:
        """Return a hash of the length and of a few samples of each part; empty for iterable data sets."""
        parts = [_data_set_of(part) for part in (self.train, self.validation, self.test) if part is not None]
        if not all(_is_map_style(part) for part in parts):
            return ""
        first, second = hash_values(_some_samples(parts)), hash_values(_some_samples(parts))
        # A data set that draws from its own generator never gives the same samples twice.
        return first if first == second else ""


def _some_samples(parts: list[Any]) -> Iterator[Any]:
    for part in parts:
        samples = SeededSamples(part, SAMPLE_SEED)
        yield len(samples)
        yield from (samples[0, index] for index in evenly_spaced(len(samples), 8))


@dataclass(frozen=True)
class SampleData(UserData, SeededData):
    """A user's map-style data sets."""

    batch_size: int
    workers: int

    def seeded(self, seed: int) -> tuple[SeededSamples, SeededSamples | None, SeededSamples]:
        """Return the parts with random transforms that depend on ``seed``."""
        validation = None if self.validation is None else SeededSamples(self.validation, seed)
        return SeededSamples(self.train, seed), validation, SeededSamples(self.test, seed)


class LoaderData(UserData):
    """A user's DataLoaders."""

    def loaders(self, seed: int, rank: int = 0, world: int = 1) -> Loaders:
        """Make the loaders of the only process; see :meth:`.Data.loaders`."""
        if world > 1:
            raise ValueError(f"DataLoaders cannot be shared among {world} processes: pass the Datasets instead")
        validation = None if self.validation is None else UserLoader(self.validation, seed)
        train = UserLoader(self.train, seed, is_training=True)
        return Loaders(train, validation, UserLoader(self.test, seed), train.begin)

    def sample(self, count: int) -> Any:
        """Return one batch of at most ``count`` test samples; of a loader that makes no batches, its first one."""
        if not _makes_batches(self.test):
            return next(iter(UserLoader(self.test, SAMPLE_SEED)))
        samples = SeededSamples(self.test.dataset, SAMPLE_SEED)
        order = permutation(len(samples), SAMPLE_SEED, Stream.SAMPLE)[:count]
        return self.test.collate_fn([samples[0, index] for index in order.tolist()])
