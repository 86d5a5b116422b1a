"""An exported network beside the one that was trained, on a batch of real data.

Rounding flips a spike whose membrane potential is at the threshold, which flips others: in a wide, deep network the
logits of one image in five differ by a tenth of the largest, and of two classes that are nearly equal either may win.
How many images that is depends on the network alone, so it is measured: torch runs the network a second time, its
convolutions laid out channels-last, which is the same sum in another order. What is wrong with an export, be it a
weight off by a thousandth, moves the logits of nearly every image.
"""

import copy
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from .runtime import Runtime

ROUNDING = 1e-4
"""Of the largest logit: where an image's logits differ by more, spikes have flipped, and they count as moved."""
TIMES = 3
"""An export may round as often as torch does twice over, and once more for its weights, folded and rounded again."""
MOST_LOST = 0.03
"""Share of the labelled images that an export may classify wrongly beyond those that the network does."""
PART, FEW = 64, 16
"""Images that are run at once, and those in which the layer that differs is looked for."""


class Reference(Protocol):
    """What an export is compared with."""

    network: nn.Module

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
        agree: of them, those of which both predict the same class.
        moved: those whose logits differ by more than rounding alone would have it.
        difference: the largest difference of a logit.
        largest: the largest logit.
        lost: how many images fewer are classified rightly; 0 where there are no labels.
        own: as many agree, and are moved, where torch runs the network twice, its sums in another order; None where
            that was not tried.
    """

    images: int
    agree: int
    moved: int
    difference: float
    largest: float
    lost: int = 0
    own: tuple[int, int] | None = None

    @property
    def holds(self) -> bool:
        """Whether rounding explains all differences."""
        chance, (own_agree, own_moved) = self.images**0.5 / 2, self.own or (self.images, 0)
        # An image is not moved if each of several roundings, one as often as the other, leaves it where it is.
        still = self.images * (1 - own_moved / self.images) ** TIMES
        return (
            self.images - self.moved >= still - chance
            and self.images - self.agree <= TIMES * (self.images - own_agree) + chance
            and self.lost <= max(MOST_LOST * self.images, chance)
            and self.difference < float("inf")
        )

    def __str__(self) -> str:
        own = f", where torch alone, in another order, moves {self.own[1]}" if self.own else ""
        return (
            f"{self.agree} of {self.images} predictions agree; the logits of {self.moved} images differ by more than "
            f"rounding{own}; largest difference {self.difference:.2g} (the largest logit is {self.largest:.3g})"
        )


def compare(expected: Tensor, got: Tensor, own: Tensor | None = None, labels: Tensor | None = None) -> Agreement:
    """Compare logits ``[N, num_classes]``.

    Args:
        expected: the network's.
        got: the export's.
        own: the network's, its sums in another order, where that was tried.
        labels: of the images, ``[N]``, where there are any.

    Example:
        >>> import torch
        >>> logits = torch.eye(4)
        >>> compare(logits, logits + 1e-6).holds, compare(logits, logits * 1.001).holds
        (True, False)
    """
    largest = expected.abs().max().item()

    def beside(other: Tensor) -> tuple[int, int]:
        still = (other - expected).abs().amax(-1) <= ROUNDING * largest
        return int((other.argmax(-1) == expected.argmax(-1)).sum()), int((~still).sum())

    def right(logits: Tensor) -> int:
        return 0 if labels is None else int((logits.argmax(-1) == labels).sum())

    lost, difference = right(expected) - right(got), (got - expected).abs().max().item()
    return Agreement(len(expected), *beside(got), difference, largest, lost, None if own is None else beside(own))


def check(reference: Reference, exported: Runtime, images: Tensor, labels: Tensor | None = None) -> Agreement:
    """Compare an exported network with the trained one.

    Args:
        reference: the trained network.
        exported: the export, loaded back.
        images: uint8 ``[N, C, H, W]``, or frames ``[N, T, C, H, W]``.
        labels: of the images, ``[N]``, where there are any.

    Raises:
        ValueError: logits, predictions or accuracy differ by more than rounding explains; the message says which layer
            differs first.
    """
    expected, got = whole(reference, images), whole(exported, images)
    if got.shape != expected.shape:
        raise ValueError(f"the export gives {tuple(got.shape)} logits, the network {tuple(expected.shape)}")
    own = whole(in_another_order(reference), images)
    # Of every step, where every step has logits.
    labels = None if labels is None else labels.repeat(len(expected) // len(labels))
    agreement = compare(expected, got, own, labels)
    if agreement.holds:
        return agreement
    lost = f"; {agreement.lost} images fewer are classified rightly" if agreement.lost > 0 else ""
    raise ValueError(f"the export differs: {agreement}{lost}; {first_difference(reference, exported, images[:FEW])}")


def whole(runs: Reference | Runtime, images: Tensor) -> Tensor:
    """Return logits of many images, ``[N, num_classes]``, or ``[T * N, num_classes]`` where every step has its own."""
    parts = (images[start : start + PART] for start in range(0, len(images), PART))
    return torch.cat([runs.whole(part).float() for part in parts], -2).flatten(0, -2)


def in_another_order(reference: Reference) -> Reference:
    """Return a copy whose convolutions are laid out channels-last: the same sums in another order."""
    other = copy.deepcopy(reference)

    def last(module: nn.Module, args: tuple[Any, ...]) -> tuple[Tensor]:
        return (args[0].contiguous(memory_format=torch.channels_last),)

    def first(module: nn.Module, args: Any, out: Tensor) -> Tensor:
        return out.contiguous()

    for layer in other.network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_pre_hook(last)
            layer.register_forward_hook(first)
    return other


def first_difference(reference: Reference, exported: Runtime, images: Tensor) -> str:
    """Say in which layer of neurons the spikes of most images differ first: of some, rounding flips one earlier."""
    expected, got = reference.spikes(images), exported.spikes(images)
    told, first = torch.zeros(len(images), dtype=torch.bool), (0, "all spikes are equal, so the classifier differs")
    for name, spikes in expected.items():
        if name not in got:
            return f"the first layer that differs is {name}, which the export does not have"
        if got[name].shape != spikes.shape:
            return f"the first layer that differs is {name}, {tuple(got[name].shape)} instead of {tuple(spikes.shape)}"
        different = (got[name].float() != spikes.float()).transpose(0, 1).flatten(1).sum(1)
        here = int(((different > 0) & ~told).sum())
        told |= different > 0
        if here > first[0]:
            said = f"the first layer that differs is {name}: {int(different.sum()):,} of {spikes.numel():,} spikes"
            first = here, said
    return first[1]
