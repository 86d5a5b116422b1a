"""Agreement of an exported network with the trained one on a batch of real data.

Rounding can flip a spike whose membrane potential lies at the threshold, and that spike flips others. The logits of an
image therefore differ either by rounding alone or by a lot. How many images rounding moves depends on the network, so
it is measured: torch runs the network a second time, its convolutions channels-last, which computes the same sums in
another order. A wrong export, such as one whose weights are off by 0.1 %, moves nearly every image.
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .._utils.module_state import preserving_state
from ..nets.layers import channels_last
from .exporter import Logits
from .spec import NetworkSpec, Prepare

ROUNDING = 1e-4
"""An image is moved if one of its logits differs by more than this share of the largest logit."""
TOLERANCE = 3
"""An export may move this many times as many images as torch's second run: both are rounded, and its weights too."""
CHUNK = 64
"""Images that run at once."""


@dataclass(frozen=True)
class Agreement:
    """The number of images for which two networks predict the same class, and of those moved by more than rounding."""

    images: int
    agree: int
    moved: int
    difference: float
    largest: float

    def __str__(self) -> str:
        return (
            f"{self.agree} of {self.images} predictions agree; the logits of {self.moved} images differ by more than "
            f"rounding; the largest difference is {self.difference:.2g} (the largest logit is {self.largest:.3g})"
        )


def compare(expected: Tensor, logits: Tensor) -> Agreement:
    """Compare two tensors of logits ``[N, num_classes]``."""
    largest, differences = expected.abs().max().item(), (logits - expected).abs().amax(-1)
    return Agreement(
        images=len(expected),
        agree=int((logits.argmax(-1) == expected.argmax(-1)).sum()),
        # Not ">", which is false for NaN.
        moved=int((~(differences <= ROUNDING * largest)).sum()),
        difference=differences.max().item(),
        largest=largest,
    )


def check(network: nn.Module, spec: NetworkSpec, exported: Logits, images: Tensor) -> Agreement:
    """Compare an exported network with the network that it was made from."""
    expected, logits = network_logits(network, spec, images), in_chunks(exported, images)
    if logits.shape != expected.shape:
        raise ValueError(f"the export returns logits {list(logits.shape)}, the network {list(expected.shape)}")
    agreement = compare(expected, logits)
    reordered = copy.deepcopy(network)
    channels_last(reordered)
    rounding = compare(expected, network_logits(reordered, spec, images))
    chance = len(expected) ** 0.5 / 2
    disagree, disagree_by_rounding = (each.images - each.agree for each in (agreement, rounding))
    if not (
        agreement.moved <= TOLERANCE * rounding.moved + chance
        and disagree <= TOLERANCE * disagree_by_rounding + chance
        and agreement.difference < float("inf")
    ):
        raise ValueError(f"the export differs from the network: {agreement}; torch alone moves {rounding.moved} images")
    return agreement


def network_logits(network: nn.Module, spec: NetworkSpec, images: Tensor) -> Tensor:
    """Return the logits ``[N, num_classes]`` of a network in evaluation mode."""
    prepare = Prepare(spec)
    with torch.no_grad(), preserving_state(network, training=False):
        return in_chunks(lambda chunk: network(prepare(chunk)), images)


def in_chunks(logits: Logits, images: Tensor) -> Tensor:
    """Return the logits of many images; the steps of a ``"sequence"`` readout are stacked to ``[T * N, classes]``."""
    return torch.cat([logits(chunk).float() for chunk in torch.split(images, CHUNK)], -2).flatten(0, -2)
