"""One line a person understands about the gradient of a network."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .layers import LayerReport, chain, factor, learning

Kind = Literal["healthy", "vanishes", "explodes", "silent", "saturated", "no gradient"]
# A gradient that changes by less over the whole depth is called healthy.
TOLERANCE = 10.0
# Share of a layer's neurons from which on it says nothing to the layers behind.
DEAD = 0.99


@dataclass(frozen=True)
class Verdict:
    """What is wrong, where it begins, and by how much."""

    kind: Kind
    layer: str
    """The layer at which it begins; for a gradient that is the first that it passes, coming from the output, out of
    bounds."""
    factor: float
    """The gradient's norm at the first spiking layer over that at the last."""
    sentence: str

    @property
    def distance(self) -> float:
        """How far the factor is from 1, in orders of magnitude; infinite where there is none."""
        return abs(math.log10(self.factor)) if 0 < self.factor < math.inf else math.inf


def judge(layers: Sequence[LayerReport]) -> Verdict:
    """Say whether a network's neurons live and whether its gradient vanishes, explodes or neither.

    Args:
        layers: all spiking layers on a batch, from input to output.

    Example:
        >>> import torch
        >>> from shortcut_snn import nets
        >>> network, batch = nets.spiking_resnet8(10, 2, width=4), (torch.rand(2, 3, 8, 8), torch.tensor([1, 2]))
        >>> from shortcut_snn.diagnosis import examine
        >>> judge(examine(network, [batch]).layers).layer.startswith(("stem", "layer"))
        True
    """
    along = chain(layers)
    change = factor(layers)
    for layer in along:
        kind: Kind
        for share, kind, what in (
            (layer.silent, "silent", "never fire: what lies behind sees no input"),
            (layer.saturated, "saturated", "fire at every step: what lies behind sees a constant"),
        ):
            if share >= DEAD:
                return Verdict(
                    kind, layer.layer, change, f"dead from {layer.layer} on: {100 * share:.0f} % of its neurons {what}"
                )
    along = learning(layers)
    if not along:
        what = "no gradient is needed at any of its neurons: whatever lies before them is frozen"
        return Verdict("no gradient", layers[0].layer, change, what)
    for layer in reversed(along):
        if not 0 < layer.norm < math.inf:
            what = "no gradient reaches it" if layer.norm == 0 else f"the gradient's norm there is {layer.norm}"
            return Verdict("no gradient", layer.layer, change, f"dead from {layer.layer} towards the input: {what}")
    gain = change ** (1 / max(len(along) - 1, 1))
    way = f"from {along[-1].layer} back to {along[0].layer}"
    if 1 / TOLERANCE <= change <= TOLERANCE:
        sentence = f"healthy: {way} the gradient changes {_times(change)} ({gain:.2f} times a layer)"
        return Verdict("healthy", along[0].layer, change, sentence)
    kind = "explodes" if change > TOLERANCE else "vanishes"
    where = next(layer.layer for layer in reversed(along) if _beyond(layer.norm / along[-1].norm, kind))
    verb = "grows" if change > 1 else "fades"
    sentence = f"{kind}: {way} the gradient {verb} {_times(change)} ({gain:.2f} times a layer), past {TOLERANCE:g} "
    return Verdict(kind, where, change, f"{sentence}times from {where} on")


def _beyond(ratio: float, kind: Kind) -> bool:
    return ratio > TOLERANCE if kind == "explodes" else ratio < 1 / TOLERANCE


def _times(change: float) -> str:
    return f"{change if change >= 1 else 1 / change:.3g} times"
