"""Penalties: terms of the loss that depend on the spikes of a network and not on its predictions."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .. import components


@dataclass
class FiringRates:
    """Spikes and elements (neurons, time steps and samples) by layer, recorded by ``measurement.firing_rates``.

    Gradients flow to the spikes, and through their surrogates to the weights. An integer n of an I-LIF neuron counts as
    n.
    """

    spikes: dict[str, Tensor] = field(default_factory=dict)
    elements: dict[str, int] = field(default_factory=dict)
    without_gradients: set[str] = field(default_factory=set, init=False)
    """Layers that ran while gradients were off."""

    def add(self, layer: str, spikes: Tensor, elements: int) -> None:
        """Add the number of spikes of one call of a layer."""
        if not torch.is_grad_enabled():
            self.without_gradients.add(layer)
        self.spikes[layer] = self.spikes[layer] + spikes if layer in self.spikes else spikes
        self.elements[layer] = self.elements.get(layer, 0) + elements

    @property
    def by_layer(self) -> Mapping[str, Tensor]:
        """Spikes per neuron and time step of each layer, 0-dimensional."""
        return {layer: spikes / max(self.elements[layer], 1) for layer, spikes in self.spikes.items()}

    @property
    def mean(self) -> Tensor:
        """Spikes per neuron and time step over all neurons of the network, 0-dimensional."""
        if not any(self.elements.values()):
            raise ValueError("no firing rates were recorded: run the network inside the block of firing_rates(network)")
        first, *others = self.spikes.values()
        return sum((spikes.to(first.device) for spikes in others), start=first) / sum(self.elements.values())


@components.penalty("firing_rate")
@dataclass(frozen=True)
class FiringRatePenalty:
    """``weight * max(mean - target, 0)``, with the mean firing rate of all neurons in spikes per time step.

    A spike costs the same in every layer. The gradient is constant above the target and 0 below it.

    Args:
        weight: loss per unit of the mean firing rate; >= 0.
        target: the firing rate up to which spikes cost nothing; >= 0.

    Raises:
        ValueError: an option out of range.
        RuntimeError: when called: some layers ran without gradients, and others with them.

    Example:
        >>> import torch
        >>> from shortcut_snn.measurement import firing_rates
        >>> from shortcut_snn.neurons import LIF
        >>> penalty, neuron = FiringRatePenalty(weight=2.0, target=0.1), LIF()
        >>> with firing_rates(neuron) as rates:
        ...     spikes = neuron(torch.full((4, 1, 1), 0.75))  # fires at every second time step
        >>> penalty(rates)  # 2 * (0.5 - 0.1)
        tensor(0.8000)
    """

    weight: float = 1.0
    target: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (("weight", self.weight), ("target", self.target)):
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} of the firing-rate penalty must be finite and >= 0, got {value}")

    def __call__(self, rates: FiringRates) -> Tensor:
        """Return the term, 0-dimensional."""
        if rates.without_gradients and any(spikes.requires_grad for spikes in rates.spikes.values()):
            raise RuntimeError(
                f"the layer {min(rates.without_gradients)!r} runs without gradients, so no penalty reaches it: it is "
                "inside torch.no_grad() or checkpoint(use_reentrant=True); use checkpoint(use_reentrant=False)"
            )
        return self.weight * (rates.mean - self.target).relu()
