"""The interface between data sets and training: :class:`Data` makes :class:`Loaders`."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol


class Loader(Protocol):
    """An iterable of batches with a length, such as a torch DataLoader."""

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the batches of one epoch."""

    def __len__(self) -> int:
        """Return the number of batches."""


@dataclass(frozen=True)
class Loaders:
    """One loader for each part of a data set.

    Attributes:
        train: training batches. Lightning chooses the epoch through ``train.sampler.set_epoch``.
        validation: None without a validation part.
        test: every test sample once, in order.
        begin: ``begin(epoch, batches)`` skips the first ``batches`` batches of ``epoch``; all other epochs are served
            in full. Call it before the first iteration.
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

    @property
    def batch_size(self) -> int | None:
        """Samples in a training batch; None if the loader does not know."""
        size = getattr(self.train, "batch_size", None)
        return size if isinstance(size, int) else None


class Data(ABC):
    """A data set with a training part, a test part and perhaps a validation part."""

    @property
    @abstractmethod
    def description(self) -> dict[str, Any]:
        """Facts that networks and exported files need; JSON values only.

        Images have ``classes`` (names), ``channels``, ``image_size`` ([H, W] in pixels), ``mean`` and ``std`` (per
        channel; on the 0..1 scale for images, in events for frames) and ``kind`` ("static" or "events"). Event
        recordings add ``sensor`` ([H, W] in pixels), ``slicing``, and ``turned`` (see :class:`.CIFAR10DVS`).
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
