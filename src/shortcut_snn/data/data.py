"""What training eats, whatever it is made of."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from .fingerprint import Fingerprint

SAMPLE_SEED = 0
"""A sample of the test part is the same in every run."""


class Loader(Protocol):
    """An iterable of batches, as a torch DataLoader is."""

    def __iter__(self) -> Iterator[Any]:
        """Return the batches of an epoch."""

    def __len__(self) -> int:
        """Return how many they are."""


@dataclass(frozen=True)
class Loaders:
    """One loader for each part of a data set.

    Attributes:
        train: training batches; Lightning chooses the epoch through its ``sampler.set_epoch``.
        validation: None where there is no such part.
        test: every sample once, in order.
        begin: ``begin(epoch, batches)`` goes on in an epoch after so many training batches of this process; every other
            epoch is served whole. To be called before the first iteration.
    """

    train: Loader
    validation: Loader | None
    test: Loader
    begin: Callable[[int, int], None]

    @property
    def samples(self) -> dict[str, int]:
        """How many samples each part has, where that is known."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        # A loader that is replayed holds the person's own.
        sets: dict[str, Any] = {
            name: getattr(getattr(part, "loader", part), "dataset", None) for name, part in parts.items()
        }
        return {name: len(each) for name, each in sets.items() if hasattr(each, "__len__")}

    @property
    def batch_size(self) -> int | None:
        """Samples in a training batch, where that is known."""
        size = getattr(getattr(self.train, "loader", self.train), "batch_size", None)
        return size if isinstance(size, int) else None


class Data(ABC):
    """A data set in its parts."""

    @property
    @abstractmethod
    def description(self) -> dict[str, Any]:
        """What networks and files have to know, as JSON can say it.

        Images have ``classes`` (names), ``channels``, ``image_size`` ([H, W] in pixels), ``mean`` and ``std`` (per
        channel; on the 0..1 scale for images, in events for frames of these), ``kind`` ("static" or "events");
        recordings of events have the camera's ``sensor`` ([H, W] in pixels), ``slicing`` and ``turned`` (whether
        ``.aedat`` files are, as CIFAR10-DVS's) too.
        """

    @property
    def split(self) -> str:
        """Which samples are in which part, a line for each; empty where nobody needs to know."""
        return ""

    @abstractmethod
    def loaders(self, seed: int, rank: int = 0, world: int = 1) -> Loaders:
        """Make the loaders of one process.

        Args:
            seed: of the order of training samples and of their augmentation.
            rank: this process among ``world``. Training samples are dealt out evenly, a few of them twice if need be;
                validation and test samples exactly once, with as many batches for every process.
            world: number of processes.

        Raises:
            ValueError: there are fewer validation or test samples than processes, or they cannot be dealt out.
        """

    @abstractmethod
    def sample(self, count: int) -> Any:
        """Return a batch of ``count`` test samples (or all), the same ones in every run, chosen evenly at random."""

    def fingerprint(self) -> Fingerprint:
        """Return by what one can tell whether these are the same data later on; nothing where one cannot."""
        return {}

    def storage(self) -> str:
        """Say in a line what is kept on disk to read these faster, nothing if nothing is."""
        return ""
