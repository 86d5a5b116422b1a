"""A user's DataLoader whose epochs can be drawn again."""

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader

from ..random_state import RandomStream
from .counter_random import Stream, random_bits


class ReplayedLoader:
    """Wrap a DataLoader so that each epoch is a function of (seed, epoch), for a constant number of workers.

    At the start of an epoch the loader's generator, its samplers' generators and, while a batch is drawn, the global
    generators are seeded from (seed, epoch). Training between two batches neither changes the samples nor sees their
    random numbers.

    Example:
        >>> loader = ReplayedLoader(DataLoader(range(6), shuffle=True), seed=0)
        >>> [int(batch) for batch in loader] == [int(batch) for batch in loader]
        True
        >>> loader.begin(epoch=0, batches=4)
        >>> len(list(loader))
        2
    """

    batch_sampler = None
    """Lightning reads it."""

    def __init__(self, loader: DataLoader[Any], seed: int) -> None:
        self.loader, self.seed, self.epoch = loader, seed, 0
        self.dataset, self.batch_size = loader.dataset, loader.batch_size
        self._first_epoch, self._skipped = -1, 0

    @property
    def sampler(self) -> "ReplayedLoader":
        """The loader itself, because Lightning calls ``sampler.set_epoch``."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, from 0, that the next iteration yields."""
        self.epoch = epoch

    def begin(self, epoch: int, batches: int) -> None:
        """Skip the first ``batches`` batches of ``epoch``; all other epochs are served in full."""
        self.epoch = self._first_epoch = epoch
        self._skipped = batches

    def __len__(self) -> int:
        try:
            return len(self.loader)
        except TypeError:
            name = type(self.loader.dataset).__name__
            raise TypeError(f"{name} needs a __len__ that returns its number of samples, to count epochs") from None

    def __iter__(self) -> Iterator[Any]:
        stream = RandomStream(int(random_bits(self.seed, Stream.ORDER, self.epoch)[0]) >> 1)
        batch_sampler = self.loader.batch_sampler
        parts: list[Any] = [self.loader, self.loader.sampler, batch_sampler, getattr(batch_sampler, "sampler", None)]
        for part in parts:
            if isinstance(getattr(part, "generator", None), torch.Generator):
                part.generator.manual_seed(stream.seed)
            if hasattr(part, "set_epoch"):
                part.set_epoch(self.epoch)
        # Persistent workers would keep the random states of the epoch before.
        self.loader._iterator = None
        skipped = self._skipped if self.epoch == self._first_epoch else 0
        with stream:
            batches = iter(self.loader)
        end = object()
        number = 0
        while True:
            with stream:
                batch = next(batches, end)
            if batch is end:
                return
            if number >= skipped:
                yield batch
            number += 1
