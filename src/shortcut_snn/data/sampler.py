"""The order of an epoch, as a pure function of (seed, epoch)."""

from collections.abc import Iterator

from torch.utils.data import Sampler

from .counter_random import Stream, permutation


class SeededSampler(Sampler[tuple[int, int]]):
    """Yields ``(epoch, index)``: a sample's augmentation needs both, wherever it is drawn.

    Args:
        length: samples in the data set.
        seed: of the order.
        shuffle: whether there is an order to seed; else samples come as they are.
        rank: this process among ``world``.
        world: processes that share an epoch. Each takes every ``world``-th sample.
        even: give every process as many samples, repeating a few, as training in step with others needs; else each
            sample is served exactly once.

    """

    def __init__(self, length: int, seed: int, shuffle: bool, rank: int = 0, world: int = 1, even: bool = True) -> None:
        if length < 0:
            raise ValueError(f"a data set has at least 0 samples, got {length}")
        if not 0 <= rank < world:
            raise ValueError(f"rank must be 0 to {world - 1} for {world} processes, got {rank}")
        self.length, self.seed, self.shuffle = length, seed, shuffle
        self.rank, self.world, self.even = rank, world, even
        self.epoch = 0
        self._begun = (-1, 0)

    def begin(self, epoch: int, samples: int) -> None:
        """Go on in ``epoch`` after so many samples of this process; every other epoch is served whole.

        To be called before the first iteration: loader workers ask for samples before anyone sets the epoch.
        """
        self.epoch, self._begun = epoch, (epoch, samples)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch (from 0) whose order the next iteration yields; Lightning calls this."""
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
        first = self._begun[1] if self._begun[0] == epoch else 0
        for position in range(first, len(self)):
            yield epoch, order[(self.rank + position * self.world) % self.length]
