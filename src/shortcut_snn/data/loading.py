"""Loaders that serve the same samples whatever the number of workers, processes and resumes."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from ..machine import TooLarge, check_processes
from .data import Loaders
from .sampler import SeededSampler

PATIENCE = 600
"""So many seconds a batch is waited for; a loader process that fails without a word would be waited for without end."""

Keyed = Dataset[Any]
"""A data set addressed by ``(epoch, index)``, whose every sample is a function of these and a seed."""


def seeded_loaders(
    train: Keyed, validation: Keyed | None, test: Keyed, batch_size: int, workers: int, seed: int, rank: int,
    world: int, collate: Callable[[Any], Any] | None = None,
) -> Loaders:  # fmt: skip
    """Make the loaders of one process; see :meth:`.Data.loaders`."""
    check_workers(workers)
    sampler = SeededSampler(len(train), seed, shuffle=True, rank=rank, world=world)  # type: ignore[arg-type]
    # Batch normalisation cannot learn from a single sample.
    lone = batch_size > 1 and len(sampler) > 1 and len(sampler) % batch_size == 1

    def evaluation(part: Keyed) -> DataLoader[Any]:
        length: int = len(part)  # type: ignore[arg-type]
        return _loader(part, *_in_order(length, batch_size, rank, world), False, workers, collate)

    return Loaders(
        _loader(train, sampler, batch_size, lone, workers, collate),
        None if validation is None else evaluation(validation),
        evaluation(test),
        lambda epoch, batches: sampler.begin(epoch, batches * batch_size),
    )


def check_workers(workers: int, batch: int = 0) -> None:
    """Refuse more loader processes than a machine can run.

    Args:
        workers: how many.
        batch: bytes that each batch takes; 0 where nobody knows.

    Raises:
        TooLarge: they are too many for its cores, or their batches for its shared memory.
    """
    check_processes(workers, "data.workers", "loader processes")
    # Each prepares two batches, and one is in use.
    needed, shared = (2 * workers + 1) * batch, Path("/dev/shm")
    if not workers or not batch or not shared.is_dir():
        return
    room = os.statvfs(shared)
    free = room.f_bavail * room.f_frsize
    if needed > free:
        raise TooLarge(
            f"data.workers: {workers} loader processes need {needed / 2**20:,.1f} MiB of shared memory for their "
            f"batches, and {shared} has {free / 2**20:,.1f} MiB left; choose fewer workers or a smaller "
            "data.batch_size, or make it larger (docker run --shm-size=8g)"
        )


def _in_order(length: int, size: int, rank: int, world: int) -> tuple[SeededSampler, int]:
    shortest, more = divmod(length, world)
    if more and not shortest:
        raise ValueError(f"{length} samples to evaluate are too few for {world} processes")
    # Some processes have one sample more. It must not make a batch of its own: processes in step would wait for
    # the others' batch for ever.
    while more and shortest % size == 0:
        size += 1
    return SeededSampler(length, 0, shuffle=False, rank=rank, world=world, even=False), size


def _loader(
    samples: Keyed, sampler: SeededSampler, size: int, drop_last: bool, workers: int,
    collate: Callable[[Any], Any] | None,
) -> DataLoader[Any]:  # fmt: skip
    return DataLoader(
        samples,
        batch_size=size,
        sampler=sampler,
        drop_last=drop_last,
        num_workers=workers,
        persistent_workers=workers > 0,
        timeout=PATIENCE if workers else 0,
        pin_memory=torch.cuda.is_available(),
        collate_fn=collate,
        # A loader draws a number on every iteration, even without workers: not from the global generator.
        generator=torch.Generator(),
    )
