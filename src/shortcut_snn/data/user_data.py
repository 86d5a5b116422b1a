"""Other people's data sets, loaders and data modules as data that a run can resume on, bit by bit."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

from .counter_random import Stream, permutation, random_bits
from .data import SAMPLE_SEED, Data, Loaders
from .errors import one_line
from .fingerprint import Fingerprint, joined, of_values, spread
from .loading import seeded_loaders
from .randomness import Randomness

ACCEPTED = (
    "a Data, a pair (train, test) or triple (train, validation, test) of torch Datasets with a length or of"
    " DataLoaders, or a LightningDataModule"
)

SAMPLES = 8
"""So many samples of a part stand for all of them."""


def as_data(
    given: Any, *, batch_size: int = 128, workers: int = 0, description: Mapping[str, Any] | None = None
) -> Data:
    """Make data for training of what a person has.

    Of data sets, the order of training samples and the random numbers with which each is drawn are functions of (seed,
    epoch, index). Of loaders, the order is theirs, drawn with generators seeded from (seed, epoch).

    Args:
        given: a :class:`.Data`; (train, test) or (train, validation, test), map-style data sets or loaders; or a
            LightningDataModule.
        batch_size: samples in a batch, per process, of data sets; loaders have their own.
        workers: loader processes, per process, for data sets.
        description: what networks and files have to know; see :attr:`.Data.description`. ``classes``, ``channels``
            and ``image_size`` are taken from data sets that tell them.

    Raises:
        ValueError: it is something else, or a part of it has no samples.

    Example:
        >>> x, y = torch.rand(20, 3, 8, 8), torch.arange(20) % 2
        >>> data = as_data((torch.utils.data.TensorDataset(x[:16], y[:16]), torch.utils.data.TensorDataset(x, y)))
        >>> data.description
        {'channels': 3, 'image_size': [8, 8]}
        >>> [labels.shape for _, labels in data.loaders(seed=0).train]
        [torch.Size([16])]
    """
    if isinstance(given, Data):
        return given
    if hasattr(given, "train_dataloader"):
        given = _of_module(given)
    if isinstance(given, tuple | list) and len(given) in (2, 3):
        train, test, validation = given[0], given[-1], given[1] if len(given) == 3 else None
        parts = [train, test] if validation is None else [train, test, validation]
        _check_filled({"training": train, "validation": validation, "test": test})
        if all(isinstance(part, DataLoader) for part in parts):
            return LoaderData(train, validation, test, _described(train.dataset, description))
        if all(_is_data_set(part) for part in parts):
            for part in parts:
                _check_batch(part)
            return SampleData(train, validation, test, _described(train, description), batch_size, workers)
    raise ValueError(f"data for training is {ACCEPTED}, got {_said(given)}")


def _check_filled(parts: Mapping[str, Any]) -> None:
    for name, part in parts.items():
        of_samples = _is_data_set(part.dataset if isinstance(part, DataLoader) else part)
        if of_samples and len(part) == 0:
            raise ValueError(f"the {name} part has no samples{'; leave it out' if name == 'validation' else ''}")


def _check_batch(samples: Any) -> None:
    """Refuse samples that make no batch, before a loader does in its own words."""
    few = _sample(samples, 2, list)
    try:
        default_collate(few)
    except (TypeError, RuntimeError) as error:
        kinds = [_said(sample) for sample in few]
        raise ValueError(
            f"the samples of {type(samples).__name__} make no batch: {one_line(error)}; they are "
            f"{' and '.join(kinds)}, where a batch takes tensors, arrays and numbers of the same size, and lists and "
            "mappings of these"
        ) from None


def _is_data_set(part: Any) -> bool:
    plain = isinstance(part, tuple | list | dict | str | torch.Tensor | DataLoader | IterableDataset)
    return not plain and hasattr(part, "__getitem__") and hasattr(part, "__len__")


def _said(given: Any) -> str:
    kinds = [type(part).__name__ for part in given] if isinstance(given, tuple | list) else []
    return f"({', '.join(kinds[:4])}{', ...' if len(kinds) > 4 else ''})" if kinds else f"a {type(given).__name__}"


def _of_module(module: Any) -> tuple[Any, ...]:
    """Return the loaders of a LightningDataModule; without a test part, the validation part is that.

    Training and validation come of one setup, as in Lightning's own fit: each might split anew. What is drawn is the
    same in every run, and in the test's setup what it was in that of training, which may split off the test part too.
    """
    for hook in ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer"):
        if hasattr(module, hook) and not getattr(module, hook).__func__.__qualname__.startswith("DataHooks."):
            raise ValueError(
                f"{type(module).__name__}.{hook}() would not be called: the loaders alone are taken of a data module; "
                "do its work in a task's prepare(), or in the loaders' collate_fn"
            )
    loaders = []
    with Randomness(0):
        module.prepare_data()
    with Randomness(0):
        module.setup("fit")
    for part in ("train", "val", "test"):
        method = getattr(module, f"{part}_dataloader", None)
        # What it does not define, Lightning's own hooks do, which raise.
        if method is None or method.__func__.__qualname__.startswith("DataHooks."):
            continue
        with Randomness(0):
            if part == "test":
                module.setup("test")
            loader = method()
        if isinstance(loader, list | tuple) and len(loader) == 1:
            loader = loader[0]
        if not isinstance(loader, DataLoader):
            raise ValueError(
                f"{type(module).__name__}.{part}_dataloader() must return a DataLoader, got {_said(loader)}"
            )
        loaders.append(loader)
    if len(loaders) < 2:
        raise ValueError(f"{type(module).__name__} needs a train_dataloader and a test_dataloader or val_dataloader")
    return tuple(loaders)


def _described(data_set: Any, description: Mapping[str, Any] | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    classes = getattr(data_set, "classes", None)
    if isinstance(classes, list | tuple):
        found["classes"] = [str(name) for name in classes]
    if _is_data_set(data_set) and len(data_set):
        with Randomness(0):
            first = data_set[0]
        image = first[0] if isinstance(first, tuple | list) and first else None
        if isinstance(image, torch.Tensor) and image.ndim == 3:
            found |= {"channels": image.shape[0], "image_size": list(image.shape[1:])}
    return found | dict(description or {})


def _seed(*counters: int) -> int:
    return int(random_bits(*counters)[0]) >> 1


@dataclass(frozen=True)
class GivenData(Data):
    """Parts that a person gave, and what they and the person say of them."""

    train: Any
    validation: Any
    test: Any
    about: dict[str, Any]

    @property
    def description(self) -> dict[str, Any]:
        """What the parts and their owner say."""
        return self.about

    def fingerprint(self) -> Fingerprint:
        """Return by what one can tell whether these are the same samples later on; nothing where they never are.

        Of streams, whose samples have no numbers, nothing is known.
        """
        nothing: list[Any] = []
        parts = {
            "train": self.train,
            "validation": nothing if self.validation is None else self.validation,
            "test": self.test,
        }
        sets = {name: part.dataset if isinstance(part, DataLoader) else part for name, part in parts.items()}
        if not all(part is nothing or _is_data_set(part) for part in sets.values()):
            return {}
        first, second = (joined({name: of_values(_some(part)) for name, part in sets.items()}) for _ in range(2))
        return first if first == second else {}


def _some(part: Any) -> Iterator[Any]:
    samples = SeededSamples(part, SAMPLE_SEED)
    yield len(samples)
    yield from (samples[0, index] for index in spread(len(samples), SAMPLES))


@dataclass(frozen=True)
class SampleData(GivenData):
    """Map-style data sets of a person's own."""

    batch_size: int
    workers: int

    def loaders(self, seed: int, rank: int = 0, world: int = 1) -> Loaders:
        """Make the loaders of one process; see :meth:`.Data.loaders`."""
        validation = None if self.validation is None else SeededSamples(self.validation, seed)
        train, test = SeededSamples(self.train, seed), SeededSamples(self.test, seed)
        return seeded_loaders(train, validation, test, self.batch_size, self.workers, seed, rank, world)

    def sample(self, count: int) -> Any:
        """Return a batch of ``count`` test samples (or all), the same ones in every run, chosen evenly at random."""
        return _sample(self.test, count, default_collate)


class SeededSamples(Dataset[Any]):
    """A data set addressed by ``(epoch, index)``, whose random transforms draw what belongs to (seed, epoch, index).

    Example:
        >>> class Noise(Dataset):
        ...     def __len__(self):
        ...         return 4
        ...     def __getitem__(self, index):
        ...         return torch.rand(2)
        >>> samples = SeededSamples(Noise(), seed=0)
        >>> torch.equal(samples[1, 2], samples[1, 2]), torch.equal(samples[1, 2], samples[2, 2])
        (True, False)
    """

    def __init__(self, samples: Any, seed: int) -> None:
        self.samples, self.seed = samples, seed

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: tuple[int, int]) -> Any:
        """Draw one sample; the global generators are as they were after it."""
        with Randomness(_seed(self.seed, Stream.ITEM, *key)):
            return self.samples[key[1]]


def _sample(samples: Any, count: int, collate: Any) -> Any:
    seeded = SeededSamples(samples, SAMPLE_SEED)
    order = permutation(len(seeded), SAMPLE_SEED, Stream.SAMPLE)[:count]
    return collate([seeded[0, index] for index in order.tolist()])


class LoaderData(GivenData):
    """Loaders of a person's own, replayed."""

    def loaders(self, seed: int, rank: int = 0, world: int = 1) -> Loaders:
        """Make the loaders of the one process; see :meth:`.Data.loaders`."""
        if world > 1:
            raise ValueError(f"DataLoaders cannot be dealt out to {world} processes: give the Datasets in their place")
        validation = None if self.validation is None else ReplayedLoader(self.validation, seed)
        train = ReplayedLoader(self.train, seed)
        return Loaders(train, validation, ReplayedLoader(self.test, seed), train.begin)

    def sample(self, count: int) -> Any:
        """Return ``count`` test samples as one batch; of a stream of samples, the loader's first batch."""
        if _is_data_set(self.test.dataset):
            return _sample(self.test.dataset, count, self.test.collate_fn)
        return next(iter(ReplayedLoader(self.test, SAMPLE_SEED)))


class ReplayedLoader:
    """A DataLoader whose every epoch is a function of (seed, epoch), as long as its workers are as many.

    Args:
        loader: whatever it draws from the global generators, or from its own and its samplers', is seeded anew in
            every epoch.
        seed: see above.

    Example:
        >>> loader = ReplayedLoader(DataLoader(range(6), shuffle=True), seed=0)
        >>> [int(batch) for batch in loader] == [int(batch) for batch in loader]
        True
        >>> loader.begin(epoch=0, batches=4)
        >>> len(list(loader))
        2
    """

    def __init__(self, loader: DataLoader[Any], seed: int) -> None:
        self.loader, self.seed, self.epoch = loader, seed, 0
        self._begun = (-1, 0)

    batch_sampler = None
    """Where Lightning looks too."""

    @property
    def sampler(self) -> "ReplayedLoader":
        """Where Lightning looks for ``set_epoch``."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch (from 0) that the next iteration yields."""
        self.epoch = epoch

    def begin(self, epoch: int, batches: int) -> None:
        """Go on in ``epoch`` after so many batches; every other epoch is served whole."""
        self.epoch, self._begun = epoch, (epoch, batches)

    def __len__(self) -> int:
        try:
            return len(self.loader)
        except TypeError:
            kind = type(self.loader.dataset).__name__
            raise TypeError(
                f"a run counts its epochs in batches: give {kind} a __len__ that says how many samples it yields"
            ) from None

    def __iter__(self) -> Iterator[Any]:
        own = Randomness(_seed(self.seed, Stream.ORDER, self.epoch))
        for part in self._parts():
            if isinstance(getattr(part, "generator", None), torch.Generator):
                part.generator.manual_seed(own.seed)
            if hasattr(part, "set_epoch"):
                part.set_epoch(self.epoch)
        # Workers that stay keep the generators that the epoch before has left: they are made anew.
        self.loader._iterator = None
        skipped = self._begun[1] if self._begun[0] == self.epoch else 0
        with own:
            batches = enumerate(iter(self.loader))
        end = object()
        while True:
            # Only while a batch is drawn: what trains on it draws from the global generators too.
            with own:
                number, batch = next(batches, (0, end))
            if batch is end:
                return
            if number >= skipped:
                yield batch

    def _parts(self) -> list[Any]:
        outer = [self.loader, self.loader.sampler, self.loader.batch_sampler]
        return [*outer, getattr(self.loader.batch_sampler, "sampler", None)]
