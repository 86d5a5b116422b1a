"""An exported network beside the one that was trained, on a batch of real data.

Rounding flips a spike whose membrane potential is at the threshold, which flips others: in a wide network the logits of
some images differ by much more than rounding (a tenth of the largest in a ResNet-18 of 64 channels with random weights,
for one image in five), and of two classes that are nearly equal either may win. What is wrong with an export shows in
most images, and where one class clearly wins.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .runtime import Runtime

TOLERANCE = 0.02
"""Of the greatest logit: most images' logits do not differ by more than this."""
MOST_CLOSE = 0.01
"""Share of the images that may be so close between two classes that the other one wins."""
ROUNDING = 1e-4
"""Of the greatest logit: where an image's logits differ by more, spikes have flipped."""
NOISE = 0.95
"""Quantile, over the images in which spikes have flipped, of the largest difference of an image's logits."""


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
        agree: of them, those of which both predict the same class.
        clear: of the others, those on which the network's first two classes lie further apart than flipped spikes
            usually bring about.
        typical: the median, over the images, of the largest difference of an image's logits.
        difference: the largest difference of all.
        largest: the largest logit.
    """

    images: int
    agree: int
    clear: int
    typical: float
    difference: float
    largest: float

    @property
    def holds(self) -> bool:
        """Whether rounding explains all differences."""
        few = self.images - self.agree < MOST_CLOSE * self.images or self.agree == self.images
        return few and not self.clear and self.typical <= TOLERANCE * self.largest

    def __str__(self) -> str:
        close = self.images - self.agree - self.clear
        ties = f" ({close} are as close between two classes as rounding)" if close else ""
        return (
            f"{self.agree} of {self.images} predictions agree{ties}; largest difference of the logits "
            f"{self.difference:.2g}, of the median image {self.typical:.2g} (the largest logit is {self.largest:.3g})"
        )


def compare(expected: Tensor, got: Tensor) -> Agreement:
    """Compare logits ``[N, num_classes]``.

    Example:
        >>> import torch
        >>> logits = torch.eye(4)
        >>> compare(logits, logits + 1e-6).holds, compare(logits, logits * 1.2).holds
        (True, False)
    """
    differences, largest = (got - expected).abs().amax(-1), expected.abs().max().item()
    flipped = differences[differences > ROUNDING * largest]
    noise = flipped.quantile(NOISE).item() if len(flipped) else ROUNDING * largest
    first, second = expected.topk(2).values.unbind(-1)
    differ = got.argmax(-1) != expected.argmax(-1)
    # Each of the two classes may have come that much nearer.
    clear = differ & (first - second >= 2 * noise)
    return Agreement(
        images=len(expected),
        agree=int((~differ).sum()),
        clear=int(clear.sum()),
        typical=differences.median().item(),
        difference=differences.max().item(),
        largest=largest,
    )


def check(reference: Reference, exported: Runtime, images: Tensor) -> Agreement:
    """Compare an exported network with the trained one.

    Args:
        reference: the trained network.
        exported: the export, loaded back.
        images: uint8 ``[N, C, H, W]``, or frames ``[N, T, C, H, W]``.

    Raises:
        ValueError: predictions differ, or logits, by more than flipped spikes explain; the message says which layer
            differs first.
    """
    expected, got = reference.whole(images).float(), exported.whole(images).float()
    if got.shape != expected.shape:
        raise ValueError(f"the export gives {tuple(got.shape)} logits, the network {tuple(expected.shape)}")
    agreement = compare(expected, got)
    if agreement.holds:
        return agreement
    raise ValueError(f"the export differs: {agreement}; {first_difference(reference, exported, images)}")


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
