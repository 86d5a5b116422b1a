"""The order of an epoch, as a pure function of (seed, epoch)."""

from collections.abc import Iterator

from torch.utils.data import Sampler

from .counter_random import Stream, permutation


class SeededSampler(Sampler[tuple[int, int]]):
    """Yield ``(epoch, index)``, the key of a sample's augmentation.

    Args:
        length: number of samples in the data set.
        seed: seeds the order.
        shuffle: False yields the samples in their own order.
        rank: index of this process.
        world: number of processes. Each takes every ``world``-th sample of the common order.
        even: repeat a few samples so that every process has equally many, as synchronous training needs. Without it,
            each sample is served exactly once.
    """

    def __init__(self, length: int, seed: int, shuffle: bool, rank: int = 0, world: int = 1, even: bool = True) -> None:
        if not 0 <= rank < world:
            raise ValueError(f"rank must be 0 to {world - 1} for {world} processes, got {rank}")
        self.length, self.seed, self.shuffle = length, seed, shuffle
        self.rank, self.world, self.even = rank, world, even
        self.epoch = 0
        self._first_epoch, self._skipped = -1, 0

    def begin(self, epoch: int, samples: int) -> None:
        """Skip the first ``samples`` samples of this process in ``epoch``; all other epochs are served in full.

        Call it before the first iteration, because loader workers prefetch before the epoch is set.
        """
        self.epoch = self._first_epoch = epoch
        self._skipped = samples

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, from 0, that the next iteration yields; Lightning calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        if self.even:
            return -(-self.length // self.world)
        return len(range(self.rank, self.length, self.world))

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch = self.epoch
        order = (
            permutation(self.length, self.seed, Stream.ORDER, epoch).tolist() if self.shuffle else range(self.length)
        )
        first = self._skipped if epoch == self._first_epoch else 0
        for position in range(first, len(self)):
            yield epoch, order[(self.rank + position * self.world) % self.length]
