"""A network examined, judged, and given tips that were measured on it."""

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..introspection import adapters_of, describe, find_neurons, introspect
from ..method import Layout, Reset, Shortcut, copy_network
from ..nets import SpikingNetwork
from .layers import Batch, Examination, LayerReport, Loss, cross_entropy, examine
from .remedies import of_branches, of_main, of_neurons
from .tips import Remedy, Setup, Tip, tips
from .verdict import Verdict, judge


@dataclass(frozen=True)
class Diagnosis:
    """Layers, verdict and tips; as text, what to tell a person."""

    examination: Examination
    verdict: Verdict
    tips: tuple[Tip, ...]
    tried: int = 0
    """How many remedies were measured."""

    @property
    def layers(self) -> tuple[LayerReport, ...]:
        """Every spiking layer on the first batch, from input to output."""
        return self.examination.layers

    def __str__(self) -> str:
        """Return the verdict, and a line for each tip."""
        if self.tips:
            return "\n".join([self.verdict.sentence, "measured on this network, try first:", *_lines(self.tips)])
        if self.verdict.kind == "healthy":
            return self.verdict.sentence
        rest = f"of the {self.tried} remedies tried on it none helps" if self.tried else "no remedy is known for it"
        return f"{self.verdict.sentence}; {rest}"


def _lines(found: Iterable[Tip]) -> list[str]:
    return [f"  {tip}" for tip in found]


def diagnose(
    network: nn.Module,
    batches: Sequence[Batch],
    loss: Loss = cross_entropy,
    *,
    reset: Reset | None = None,
) -> Diagnosis:
    """Say whether a network's gradient vanishes or explodes, whether layers are dead, and what helps.

    Args:
        network: any with neurons of this library, SpikingJelly, snnTorch or Norse; how it is called, put to rest and
            read is found as :func:`shortcut_snn.attach` does. What cannot be found can be said to that: its wrapper is
            taken too. It is left as it was.
        batches: pairs of inputs and labels; the first one's figures are told, and a tip has to help on all.
        loss: takes the network's output (of all time steps, where the network computes one a call) and the labels; by
            default cross-entropy of the logits ``[N, classes]`` that are found in it.
        reset: called before each batch, for networks that keep a state; by default what is found.

    Raises:
        ValueError: no batches, no neurons that it knows, or something cannot be told about the network.

    Example:
        >>> import torch
        >>> from shortcut_snn import nets
        >>> network, batch = nets.spiking_resnet8(10, 2, width=4), (torch.rand(2, 3, 8, 8), torch.tensor([1, 2]))
        >>> diagnose(network, [batch]).verdict.kind in ("healthy", "vanishes", "explodes", "silent")
        True
    """
    setup = _setup(network, batches, loss, reset)

    def tried() -> list[Remedy]:
        return of_neurons(setup, batches) + of_branches(setup, batches, reset)

    return of_setup(setup, batches, tried, reset=_kept if isinstance(setup.model, Shortcut) else reset)


def _kept(model: nn.Module) -> None:
    """A wrapper puts its network to rest by itself."""


def _setup(network: nn.Module, batches: Sequence[Batch], loss: Loss, reset: Reset | None) -> Setup:
    if isinstance(network, Shortcut):
        twin = copy.deepcopy(network)
        return Setup(twin, of_main(loss) if loss is cross_entropy else loss, twin.network)
    if not batches or not find_neurons(network) or (isinstance(network, SpikingNetwork) and not adapters_of(network)):
        return Setup(network, loss)
    (example, labels), found = batches[0], None
    how: Any = {
        "reset": reset or "auto",
        "samples": len(labels) if isinstance(labels, Tensor) and labels.dim() else None,
    }

    def find(looked_at: nn.Module) -> Layout | None:
        if loss is cross_entropy:
            return introspect(looked_at, example, taps=[], **how)
        return describe(looked_at, example, **how)

    try:
        try:
            found = find(copy_network(network))
        except ValueError:
            found = find(_awake(network))
    except ValueError as error:
        raise ValueError(f"{error} (an argument of attach: what it returns can be diagnosed as well)") from error
    assert found is not None
    inner = copy_network(network)
    wrapped = Shortcut(
        inner, [], num_classes=max(found.num_classes, 1), run=found.run, reset=found.reset, readout=found.readout
    )
    wrapped.layout = found
    return Setup(wrapped, of_main(loss), inner)


def _awake(network: nn.Module) -> nn.Module:
    """A copy whose neurons fire, if low thresholds make them: in a silent network nothing tells where samples are."""
    twin = copy_network(network)
    for neuron in find_neurons(twin).values():
        for name in ("threshold", "v_threshold"):
            now = getattr(neuron, name, None)
            if isinstance(now, Tensor) and not isinstance(now, nn.Parameter):
                setattr(neuron, name, torch.ones_like(now))
            elif isinstance(now, float):
                setattr(neuron, name, 1.0)
    return twin


def of_setup(
    setup: Setup,
    batches: Sequence[Batch],
    tried: Callable[[], Iterable[Remedy]],
    *,
    reset: Reset | None = None,
) -> Diagnosis:
    """Diagnose what runs, with remedies of the caller's, which are asked for if something is wrong."""
    found = examine(setup.model, batches, setup.loss, network=setup.network, reset=reset)
    verdict = judge(found.layers)
    if verdict.kind == "healthy":
        return Diagnosis(found, verdict, ())
    remedies = list(tried())
    helpful, built = tips(found, remedies, batches, reset=reset)
    return Diagnosis(found, verdict, tuple(helpful), built)
