"""Real data for networks of other libraries: batches ``[T, N, C, H, W]`` of float32."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from shortcut_snn.data import Digits, RecordingArchive

Batch = tuple[Tensor, Tensor]
FOLDS = 5


@dataclass(frozen=True)
class Shape:
    """Shape of a network's input.

    Args:
        channels: C. Images of one channel are repeated; to frames of events a channel of zeros is added.
        size: H and W.
        time_steps: T.
        scale: factor on the input current.
    """

    channels: int
    size: int
    time_steps: int
    scale: float = 1.0


class Batches:
    """scikit-learn's digits as a constant current, or N-MNIST's recordings as frames.

    N-MNIST's archive has few test recordings, so each seed holds out another fifth of all recordings.

    Args:
        path: N-MNIST as one ``.npz`` file; None for the digits, which need no file.
        shape: shape of the network's input.
        seed: seed of the order of the training samples and, with N-MNIST, of the test set.
        size: samples in a batch.
    """

    def __init__(self, path: str | None, shape: Shape, seed: int, size: int) -> None:
        self.shape = shape
        if path is None:
            self.data = Digits(augment=(), batch_size=size).load()
        else:
            fold: dict[str, Any] = {"size": shape.size, "folds": FOLDS, "fold": seed % FOLDS}
            self.data = RecordingArchive(path, augment=(), batch_size=size, **fold).load(shape.time_steps)
        self.loaders = self.data.loaders(seed)
        self.steps = len(self.loaders.train)

    def train(self, epoch: int, limit: int | None = None) -> Iterator[Batch]:
        """Yield the batches of an epoch; each epoch has another order."""
        self.loaders.train.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        yield from map(self._prepare, itertools.islice(self.loaders.train, limit))

    def evaluation(self, part: str, limit: int | None = None) -> Iterator[Batch]:
        """Yield the batches of ``"validation"`` or ``"test"``."""
        yield from map(self._prepare, itertools.islice(getattr(self.loaders, part), limit))

    def example(self) -> Tensor:
        """Return a blank batch of two samples."""
        shape = self.shape
        return torch.zeros(shape.time_steps, 2, shape.channels, shape.size, shape.size)

    def _prepare(self, batch: Batch) -> Batch:
        images, labels = batch
        shape = self.shape
        if images.dim() == 4:
            enlarged = F.interpolate(images / 255, (shape.size, shape.size), mode="bilinear")
            frames = enlarged.expand(shape.time_steps, -1, shape.channels, -1, -1)
        else:
            counts = images.transpose(0, 1) / torch.tensor(self.data.std).view(-1, 1, 1)
            frames = F.pad(counts, (0, 0, 0, 0, 0, shape.channels - counts.shape[2]))
        return frames * shape.scale, labels
