"""An exported network beside the one that was trained, on a batch of real data."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .runtime import Runtime

TOLERANCE = 0.05
"""Of the greatest logit. Rounding may flip a spike whose membrane potential is at the threshold, so that logits differ
by more than rounding; a batch that differs by more than this has more than that wrong."""


class Reference(Protocol):
    """What an export is compared with."""

    def whole(self, images: Tensor) -> Tensor:
        """Return logits."""
        ...

    def spikes(self, images: Tensor) -> dict[str, Tensor]:
        """Return every layer's spikes ``[T, N, ...]``, in the order in which the layers run."""
        ...


@dataclass(frozen=True)
class Agreement:
    """How near an export is to the network.

    Args:
        images: in the batch.
        difference: the largest of the logits.
        largest: the largest logit.
    """

    images: int
    difference: float
    largest: float

    def __str__(self) -> str:
        return (
            f"{self.images} of {self.images} predictions agree; largest difference of the logits "
            f"{self.difference:.2g} (the largest logit is {self.largest:.3g})"
        )


def check(reference: Reference, exported: Runtime, images: Tensor) -> Agreement:
    """Compare an exported network with the trained one.

    Args:
        reference: the trained network.
        exported: the export, loaded back.
        images: uint8 ``[N, C, H, W]``, or frames ``[N, T, C, H, W]``.

    Raises:
        ValueError: a prediction differs, or logits by more than flipped spikes explain; the message says which layer
            differs first.
    """
    expected, got = reference.whole(images).float(), exported.whole(images).float()
    if got.shape != expected.shape:
        raise ValueError(f"the export gives {tuple(got.shape)} logits, the network {tuple(expected.shape)}")
    difference, largest = (got - expected).abs().max().item(), expected.abs().max().item()
    agree = int((got.argmax(-1) == expected.argmax(-1)).sum())
    if agree == len(images) and difference <= TOLERANCE * largest:
        return Agreement(len(images), difference, largest)
    raise ValueError(
        f"the export differs: {agree} of {len(images)} predictions agree, logits differ by up to {difference:.2g} "
        f"(the largest logit is {largest:.3g}); {first_difference(reference, exported, images)}"
    )


def first_difference(reference: Reference, exported: Runtime, images: Tensor) -> str:
    """Say in which layer of neurons the spikes differ first."""
    expected, got = reference.spikes(images), exported.spikes(images)
    for name, spikes in expected.items():
        if name not in got:
            return f"the first layer that differs is {name}, which the export does not have"
        if got[name].shape != spikes.shape:
            return f"the first layer that differs is {name}, {tuple(got[name].shape)} instead of {tuple(spikes.shape)}"
        different = int(torch.count_nonzero(got[name].float() != spikes.float()))
        if different:
            return f"the first layer that differs is {name}: {different:,} of {spikes.numel():,} spikes"
    return "all spikes are equal, so the classifier differs"
