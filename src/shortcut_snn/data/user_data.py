"""Wrap the user's data sets, DataLoaders and LightningDataModules so that a run resumes on them bit for bit."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset, default_collate

from ..random_state import RandomStream
from .counter_random import Stream, permutation, random_bits
from .data import Data, Loaders
from .errors import one_line
from .fingerprint import evenly_spaced, hash_values
from .loading import SAMPLE_SEED, Key, SeededData, SeededDataset
from .replayed_loader import ReplayedLoader

ACCEPTED = (
    "a Data, a pair (train, test) or triple (train, validation, test) of torch Datasets with a length or of"
    " DataLoaders, or a LightningDataModule"
)

_HASHED_SAMPLES = 8


def as_data(
    source: Any, *, batch_size: int = 128, workers: int = 0, description: Mapping[str, Any] | None = None
) -> Data:
    """Wrap data sets, loaders or a data module as data for training.

    For data sets, the order of the training samples and the random numbers of each sample are functions of (seed,
    epoch, index). DataLoaders keep their own order, drawn with generators that are seeded from (seed, epoch).

    Args:
        source: a :class:`.Data`; (train, test) or (train, validation, test), each a map-style data set or a DataLoader;
            or a LightningDataModule.
        batch_size: samples in a batch, per process, for data sets; loaders have their own.
        workers: loader processes, per process, for data sets.
        description: facts for networks and files; see :attr:`.Data.description`. ``classes``, ``channels`` and
            ``image_size`` are read from a data set that has them.

    Raises:
        ValueError: the source has another type, a part has no samples, or its samples make no batch.

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
    parts = _loaders_of_module(source) if hasattr(source, "train_dataloader") else source
    if isinstance(parts, tuple | list) and len(parts) in (2, 3):
        train, test, validation = parts[0], parts[-1], parts[1] if len(parts) == 3 else None
        named = {"training": train, "test": test} | ({} if validation is None else {"validation": validation})
        if all(isinstance(part, DataLoader) for part in named.values()):
            _check_not_empty(named)
            return LoaderData(train, validation, test, _describe(train.dataset, description))
        if all(_is_map_style(part) for part in named.values()):
            _check_not_empty(named)
            data = SampleData(train, validation, test, _describe(train, description), batch_size, workers)
            _check_collates(data)
            return data
    raise ValueError(f"data for training is {ACCEPTED}, got {_type_names(source)}")


def _check_not_empty(parts: Mapping[str, Any]) -> None:
    for name, part in parts.items():
        data_set = part.dataset if isinstance(part, DataLoader) else part
        if _is_map_style(data_set) and len(part) == 0:
            raise ValueError(f"the {name} part has no samples{'; leave it out' if name == 'validation' else ''}")


def _check_collates(data: "SampleData") -> None:
    """Collate two samples here, where the error can name the data set, and not in a worker process."""
    for part in data.seeded(SAMPLE_SEED):
        if part is not None:
            try:
                part.__getitems__([(0, index) for index in range(min(2, len(part)))])
            except (TypeError, RuntimeError) as error:
                name = type(part.samples).__name__
                raise ValueError(
                    f"the samples of {name} make no batch: {one_line(error)}; return tensors, arrays or numbers of "
                    "equal size, or lists and mappings of them"
                ) from error


def _is_map_style(part: Any) -> bool:
    excluded = isinstance(part, tuple | list | dict | str | torch.Tensor | DataLoader | IterableDataset)
    return not excluded and hasattr(part, "__getitem__") and hasattr(part, "__len__")


def _type_names(source: Any) -> str:
    names = [type(part).__name__ for part in source] if isinstance(source, tuple | list) else []
    return f"({', '.join(names[:4])}{', ...' if len(names) > 4 else ''})" if names else f"a {type(source).__name__}"


def _loaders_of_module(module: Any) -> tuple[Any, ...]:
    """Return the loaders of a LightningDataModule; without a test loader, the validation loader takes its place.

    Training and validation come from one ``setup("fit")``, as in Lightning, because each setup may split at random.
    Every hook runs with the same seed, so the split is the same in every run and in ``setup("test")``.
    """
    name = type(module).__name__
    for hook in ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer"):
        if _overrides(module, hook):
            raise ValueError(
                f"{name}.{hook}() would not run, because only the loaders of a data module are used; move its work to "
                "the loaders' collate_fn"
            )
    with RandomStream(0):
        module.prepare_data()
    with RandomStream(0):
        module.setup("fit")
    loaders = []
    for part in ("train", "val", "test"):
        if not _overrides(module, f"{part}_dataloader"):
            continue
        with RandomStream(0):
            if part == "test":
                module.setup("test")
            loader = getattr(module, f"{part}_dataloader")()
        if isinstance(loader, list | tuple) and len(loader) == 1:
            loader = loader[0]
        if not isinstance(loader, DataLoader):
            raise ValueError(f"{name}.{part}_dataloader() must return a DataLoader, got {_type_names(loader)}")
        loaders.append(loader)
    if len(loaders) < 2:
        raise ValueError(f"{name} needs a train_dataloader and a test_dataloader or val_dataloader")
    return tuple(loaders)


def _overrides(module: Any, hook: str) -> bool:
    """Return whether a data module defines a hook itself; Lightning's own are methods of DataHooks."""
    method = getattr(module, hook, None)
    return method is not None and not method.__func__.__qualname__.startswith("DataHooks.")


def _describe(data_set: Any, description: Mapping[str, Any] | None) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    classes = getattr(data_set, "classes", None)
    if isinstance(classes, list | tuple):
        facts["classes"] = [str(name) for name in classes]
    if _is_map_style(data_set) and len(data_set):
        with RandomStream(0):
            first = data_set[0]
        image = first[0] if isinstance(first, tuple | list) and first else None
        if isinstance(image, torch.Tensor) and image.ndim == 3:
            facts |= {"channels": image.shape[0], "image_size": list(image.shape[1:])}
    return facts | dict(description or {})


def _fingerprint(*parts: Any) -> str:
    """Return a hash of the length and of a few samples of map-style data sets; of anything else an empty string."""
    if not all(_is_map_style(part) for part in parts):
        return ""

    def values() -> Any:
        for part in parts:
            samples = SeededSamples(part, SAMPLE_SEED)
            yield len(samples)
            yield from (samples[0, index] for index in evenly_spaced(len(samples), _HASHED_SAMPLES))

    first, second = hash_values(values()), hash_values(values())
    # A data set that draws from its own generator never gives the same samples twice.
    return first if first == second else ""


class SeededSamples(SeededDataset):
    """A user's map-style data set, whose random transforms draw numbers that belong to (seed, epoch, index).

    Example:
        >>> class Noise(torch.utils.data.Dataset):
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

    def __getitem__(self, key: Key) -> Any:
        """Return one sample; the global generators keep their states."""
        with RandomStream(int(random_bits(self.seed, Stream.ITEM, *key)[0]) >> 1):
            return self.samples[key[1]]

    def __getitems__(self, keys: list[Key]) -> Any:
        """Return a batch of samples."""
        return default_collate([self[key] for key in keys])


@dataclass(frozen=True)
class SampleData(SeededData):
    """A user's map-style data sets."""

    train: Any
    validation: Any
    test: Any
    facts: dict[str, Any]
    batch_size: int
    workers: int

    @property
    def description(self) -> dict[str, Any]:
        """Facts from the data sets and from the user."""
        return self.facts

    def fingerprint(self) -> str:
        """Return a hash of a few samples; empty if they are never the same twice."""
        return _fingerprint(self.train, *([] if self.validation is None else [self.validation]), self.test)

    def seeded(self, seed: int) -> tuple[SeededSamples, SeededSamples | None, SeededSamples]:
        """Return the parts with random transforms that depend on ``seed``."""
        validation = None if self.validation is None else SeededSamples(self.validation, seed)
        return SeededSamples(self.train, seed), validation, SeededSamples(self.test, seed)


@dataclass(frozen=True)
class LoaderData(Data):
    """A user's DataLoaders, replayed from seeds."""

    train: DataLoader[Any]
    validation: DataLoader[Any] | None
    test: DataLoader[Any]
    facts: dict[str, Any]

    @property
    def description(self) -> dict[str, Any]:
        """Facts from the training set and from the user."""
        return self.facts

    def fingerprint(self) -> str:
        """Return a hash of a few samples; empty for iterable data sets."""
        validation = [] if self.validation is None else [self.validation.dataset]
        return _fingerprint(self.train.dataset, *validation, self.test.dataset)

    def loaders(self, seed: int, rank: int = 0, world: int = 1) -> Loaders:
        """Make the loaders of the only process; see :meth:`.Data.loaders`."""
        if world > 1:
            raise ValueError(f"DataLoaders cannot be shared among {world} processes: pass the Datasets instead")
        validation = None if self.validation is None else ReplayedLoader(self.validation, seed)
        train = ReplayedLoader(self.train, seed)
        return Loaders(train, validation, ReplayedLoader(self.test, seed), train.begin)

    def sample(self, count: int) -> Any:
        """Return one batch of at most ``count`` test samples; of an iterable data set, the loader's first batch."""
        if not _is_map_style(self.test.dataset):
            return next(iter(ReplayedLoader(self.test, SAMPLE_SEED)))
        samples = SeededSamples(self.test.dataset, SAMPLE_SEED)
        order = permutation(len(samples), SAMPLE_SEED, Stream.SAMPLE)[:count]
        return self.test.collate_fn([samples[0, index] for index in order.tolist()])
