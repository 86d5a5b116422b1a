"""One line about a network: healthy, its input lost, its gradient vanishing or exploding, or dead from a layer on."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ..measurement import LayerReport
from ..measurement.layers import chain, gradient_factor, trained_chain

Kind = Literal["healthy", "lost", "vanishes", "explodes", "silent", "saturated", "no gradient"]
# A gradient that changes by less over the whole depth is healthy.
TOLERANCE = 10.0
# A layer is dead from this share of silent or saturated neurons on.
DEAD = 0.99
# The input is lost where less of it is kept. Of inputs that are unrelated, 32 samples seem to keep up to 0.05.
LOST = 0.1


@dataclass(frozen=True)
class Verdict:
    """The state of a network: what is wrong, in which layer it begins, and by how much."""

    kind: Kind
    layer: str
    """The layer where it begins. If the gradient vanishes or explodes, this is the first layer of the backward pass at
    which it is out of bounds. If only the input is lost, no layer from this one on keeps it."""
    factor: float
    """The gradient's norm at the first spiking layer over that at the last."""
    sentence: str
    lost: float = 0.0
    """Share of the layers in which the input is lost."""

    @property
    def is_dead(self) -> bool:
        """True if no spikes or no gradient pass a layer."""
        return self.kind in ("silent", "saturated", "no gradient")

    @property
    def distance(self) -> float:
        """Distance of the factor from 1 in orders of magnitude; infinite if there is no factor."""
        return abs(math.log10(self.factor)) if 0 < self.factor < math.inf else math.inf


def judge(layers: Sequence[LayerReport]) -> Verdict:
    """Return whether neurons are dead, the gradient vanishes or explodes, or the input is lost on its way.

    Args:
        layers: all spiking layers on a batch, from input to output.

    Example:
        >>> import torch
        >>> from shortcut_snn import nets
        >>> network, batch = nets.spiking_resnet8(10, 2, width=4), (torch.rand(2, 3, 8, 8), torch.tensor([1, 2]))
        >>> from shortcut_snn.measurement import examine
        >>> judge(examine(network, [batch]).layers).layer.startswith(("stem", "layer"))
        True
    """
    # A dead layer next to a skip connection, such as one expert of several, does not keep the input from later layers.
    on_chain = chain(layers)
    bypassed = [
        layer
        for index, layer in enumerate(on_chain)
        if _fault(layer) and any(later.varying > 0 for later in on_chain[index + 1 :])
    ]
    layers = [layer for layer in layers if layer not in bypassed]
    verdict = _judge_firing(layers) or _judge_presence_of_gradient(layers) or _judge_size_of_gradient(layers)
    if not verdict.is_dead:
        verdict = _with_loss_of_input(verdict, chain(layers))
    if not bypassed:
        return verdict
    names = ", ".join(f"{layer.layer} ({_fault(layer)})" for layer in bypassed)
    return replace(verdict, sentence=f"{verdict.sentence}. Other paths lead past {names}")


def _fault(layer: LayerReport) -> Literal["silent", "saturated"] | None:
    return "silent" if layer.silent >= DEAD else "saturated" if layer.saturated >= DEAD else None


def _judge_firing(layers: Sequence[LayerReport]) -> Verdict | None:
    factor = gradient_factor(layers)
    is_reached = all(0 < layer.norm < math.inf for layer in trained_chain(layers))
    on_chain = chain(layers)
    for layer in on_chain:
        kind = _fault(layer)
        if kind is None:
            continue
        # A surrogate may pass a gradient where no neuron fires.
        may_wake = is_reached and layer.weight_rms != 0
        symptom, remaining, cure = (
            ("never fire", "no", "lower its threshold, enlarge the weights before it")
            if kind == "silent"
            else ("fire at every step", "a constant", "raise its threshold, shrink the weights before it")
        )
        share = f"{100 * max(layer.silent, layer.saturated):.0f} % of its neurons {symptom}"
        end = "; a gradient passes, so training may change that" if may_wake else ""
        where = f"{layer.layer} is {kind}" if layer is on_chain[-1] else f"{kind} from {layer.layer} on"
        sentence = f"{where}: {share}, so what follows gets {remaining} input; {cure}, or put a norm there{end}"
        return Verdict(kind, layer.layer, factor, sentence)
    return None


def _judge_presence_of_gradient(layers: Sequence[LayerReport]) -> Verdict | None:
    factor, trained = gradient_factor(layers), trained_chain(layers)
    if not trained:
        sentence = "no neuron needs a gradient: all layers before them are frozen"
        return Verdict("no gradient", layers[0].layer, factor, sentence)
    for layer in reversed(trained):
        if not 0 < layer.norm < math.inf:
            symptom = "no gradient reaches it" if layer.norm == 0 else f"the gradient's norm there is {layer.norm}"
            return Verdict("no gradient", layer.layer, factor, f"dead from {layer.layer} towards the input: {symptom}")
    return None


def _with_loss_of_input(verdict: Verdict, layers: Sequence[LayerReport]) -> Verdict:
    """Add lost input to a verdict on the gradient, if a last layer keeps the input."""
    keeping = [index for index, layer in enumerate(layers) if not layer.kept < LOST]
    first = keeping[-1] + 1 if keeping else 0
    # The last neuron may be in a branch, and its spikes added to what is kept.
    if first >= max(len(layers) - 1, 1):
        return verdict
    layer, remaining = layers[first].layer, len(layers) - first
    sentence = (
        f"the input is lost from {layer} on, in {remaining} of {len(layers)} layers: "
        "there, a copy with a little noise differs from it as any other input does"
    )
    verdict = replace(verdict, lost=remaining / len(layers))
    if verdict.kind == "healthy":
        return replace(verdict, kind="lost", layer=layer, sentence=sentence)
    return replace(verdict, sentence=f"{verdict.sentence}. Forwards, {sentence}")


def _judge_size_of_gradient(layers: Sequence[LayerReport]) -> Verdict:
    factor, trained = gradient_factor(layers), trained_chain(layers)
    first, last = trained[0], trained[-1]
    path = f"from {last.layer} back to {first.layer} the gradient"
    times = f"{factor if factor >= 1 else 1 / factor:.3g} times"
    gain = f"{factor ** (1 / max(len(trained) - 1, 1)):.2f} times a layer"
    if 1 / TOLERANCE <= factor <= TOLERANCE:
        return Verdict("healthy", first.layer, factor, f"healthy: {path} changes {times} ({gain})")
    kind: Kind = "explodes" if factor > TOLERANCE else "vanishes"
    verb = "grows" if kind == "explodes" else "fades"
    for layer in reversed(trained):
        ratio = layer.norm / last.norm
        if ratio > TOLERANCE if kind == "explodes" else ratio < 1 / TOLERANCE:
            break
    sentence = f"{kind}: {path} {verb} {times} ({gain}), past {TOLERANCE:g} times from {layer.layer} on"
    return Verdict(kind, layer.layer, factor, sentence)
