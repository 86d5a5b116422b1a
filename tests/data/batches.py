"""Batches of an epoch, to compare with those of another."""

from typing import Any

import torch

from shortcut_snn.data.loading import Loaders


def epoch(made: Loaders, number: int) -> list[Any]:
    """Return the training batches of an epoch."""
    made.train.sampler.set_epoch(number)  # type: ignore[attr-defined]
    return list(made.train)


def equal(first: list[Any], second: list[Any]) -> bool:
    """Return whether two epochs have the same batches."""
    return len(first) == len(second) and all(
        torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(first, second, strict=True)
    )
