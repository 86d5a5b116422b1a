"""Record spikes and gradients of every spiking layer through hooks."""

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .._utils.module_state import hooked
from ..introspection.neurons import find_neurons, spiking_modules, steps_first
from ..method.penalties import FiringRates
from ..method.taps import first_tensor
from ..neurons.packing import count_spikes


class LayerTally:
    """Spikes and gradients of one layer in the recorded passes.

    It adds up tensors on their device, so that recording does not wait for a GPU. The properties wait.
    """

    def __init__(self) -> None:
        self.spikes: Tensor | float = 0.0
        self.elements = 0
        self.fired: dict[tuple[int, ...], tuple[Tensor, Tensor, Tensor]] = {}
        """By shape of a sample: neurons that ever fired, not always fired, and fired differently for two samples."""
        self.squares: Tensor | float = 0.0
        self.needs_gradient = False
        self.is_read = False
        """Whether the loss depends on the spikes: False for output neurons of which only the potential is read."""
        self.weight_names: list[str] = []
        """The last convolution or linear layer that ran before each call of this layer; "" if there was none."""

    @torch.no_grad()
    def add_spikes(self, spikes: Tensor) -> None:
        """Add the spikes of one call, ``[T, N, ...]``."""
        self.spikes = self.spikes + count_spikes(spikes).double()
        self.elements += spikes.numel()
        most, least = spikes.amax(1), spikes.amin(1)
        masks = (most > 0).any(0), (least <= 0).any(0), (most != least).any(0)
        # A module that serves several layers may have outputs of several shapes.
        shape = tuple(masks[0].shape)
        ever, at_times, differently = self.fired.get(shape, masks)
        self.fired[shape] = ever | masks[0], at_times | masks[1], differently | masks[2]

    @torch.no_grad()
    def add_gradient(self, grad: Tensor) -> None:
        """Add the squares of a gradient."""
        # In float64 the squares of a vanished gradient do not underflow.
        norm: Tensor = torch.linalg.vector_norm(grad, dtype=torch.float64)
        self.squares = self.squares + norm.square()

    @property
    def rate(self) -> float:
        """Spikes per neuron and time step."""
        return float(self.spikes) / max(self.elements, 1)

    @property
    def norm(self) -> float:
        """Norm of the gradient over neurons, time steps and samples."""
        return math.sqrt(float(self.squares))

    def shares(self) -> tuple[float, float, float]:
        """Return the shares of neurons that never fired, always fired, and fired differently for two samples."""
        if not self.fired:
            return 0.0, 0.0, math.nan
        ever, not_always, differently = (
            torch.cat([mask.flatten() for mask in masks]).float().mean().item()
            for masks in zip(*self.fired.values(), strict=True)
        )
        return 1.0 - ever, 1.0 - not_always, differently


@contextmanager
def firing_rates(network: nn.Module) -> Iterator[FiringRates]:
    """Record the firing rates of all spiking layers in the passes inside the block, differentiably.

    Hooks leave the network's kernels as they are, and spikes that carry bits are counted from these.

    Args:
        network: has built-in neurons, or neurons of SpikingJelly, snnTorch, Norse or sinabs.

    Raises:
        ValueError: there are no such neurons.

    Example:
        >>> from torch.nn import functional as F
        >>> from shortcut_snn import FiringRatePenalty, nets
        >>> network, penalty = nets.spiking_resnet8(10, 2, width=4), FiringRatePenalty(weight=1.0, target=0.05)
        >>> images, labels = torch.rand(2, 3, 8, 8), torch.tensor([1, 2])
        >>> with firing_rates(network) as rates:
        ...     loss = F.cross_entropy(network(images), labels)
        >>> (loss + penalty(rates)).backward()
        >>> [f"{layer}: {rate:.0%}" for layer, rate in rates.by_layer.items()][0].split(":")[0]
        'stem.spike'
    """
    check_has_neurons(network)
    rates = FiringRates()

    def after_layer(name: str, module: nn.Module, args: Any, output: Any) -> None:
        spikes = first_tensor(output)
        rates.add(name, count_spikes(spikes), spikes.numel())

    with hooked(spiking_modules(network), after_layer):
        yield rates


def check_has_neurons(network: nn.Module) -> None:
    """Raise ``ValueError`` if a network has no known neurons."""
    if not spiking_modules(network):
        raise ValueError(
            f"{type(network).__name__} has no known neurons: they are neither built-in nor from SpikingJelly, "
            "snnTorch, Norse or sinabs; diagnose, initialise and measure_energy take your own as spiking=(MyNeuron,)"
        )


@contextmanager
def probe(network: nn.Module, membrane: bool = True) -> Iterator[dict[str, LayerTally]]:
    """Record all spiking layers in the passes inside the block, in the order of their first calls.

    Args:
        network: the network that runs.
        membrane: record the gradient at the membrane potential, which is that at the input current. This prevents
            normalisation and neuron from running as one kernel. False records the gradient at the spikes, and the
            network runs just as it does without a probe.

    Raises:
        ValueError: a neuron serves several layers, so that the gradient cannot be told by layer.

    Example:
        >>> from shortcut_snn import nets
        >>> network = nets.spiking_resnet8(10, time_steps=2, width=4)
        >>> with probe(network) as layers:
        ...     network(torch.rand(4, 3, 8, 8)).sum().backward()
        >>> list(layers)[:2]
        ['stem.spike', 'layer1.0.spike1']
    """
    tallies: dict[str, LayerTally] = {}
    read_spikes = steps_first(network)
    last_weight, calls = "", Counter[str]()

    def before_weight(name: str, module: nn.Module, args: Any) -> None:
        nonlocal last_weight
        last_weight = name
        calls[name] += 1

    def before_neuron(name: str, module: nn.Module, args: Any) -> Any:
        tally = tallies.setdefault(name, LayerTally())
        tally.weight_names.append(last_weight)
        current = args[0]
        if not (membrane and torch.is_grad_enabled() and current.requires_grad):
            return None
        tally.needs_gradient = True
        # A view that only this neuron reads. The gradient of a skip path through the same tensor is left out.
        alias = current.view_as(current)
        alias.register_hook(tally.add_gradient)
        return (alias, *args[1:])

    def after_neuron(name: str, module: nn.Module, args: Any, output: Any) -> None:
        spikes, tally = first_tensor(output), tallies[name]
        tally.add_spikes(read_spikes(name, module, output))
        if not spikes.requires_grad:
            return
        tally.needs_gradient |= not membrane

        def arrive(grad: Tensor) -> None:
            tally.is_read = True
            if not membrane:
                tally.add_gradient(grad)

        spikes.register_hook(arrive)  # type: ignore[no-untyped-call]

    layers = find_neurons(network) if membrane else spiking_modules(network)
    kinds = (nn.modules.conv._ConvNd, nn.Linear)
    weighted = {name: module for name, module in nn.Module.named_modules(network) if isinstance(module, kinds)}
    with hooked(layers, after_neuron, before_neuron), hooked(weighted, pre=before_weight):
        yield tallies
    for name, tally in tallies.items() if membrane else ():
        # In a loop over time, layers run as often as the neuron, or none runs between its calls.
        if len(set(tally.weight_names)) > 1 and len(tally.weight_names) not in calls.values():
            raise ValueError(
                f"the neuron {name!r} serves several layers, which cannot be told apart: use one neuron for each layer"
            )
