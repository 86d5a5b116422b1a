r"""Additions, multiplications, memory accesses and energy of an inference, counted from the spikes that flow.

A layer that is fed spikes adds a weight for every spike and every output that it reaches; one that is fed anything else
(an image, a current, the counts that SEW blocks pass on) multiplies and adds for every weight it uses. A number n that
an I-LIF neuron gives is n spikes (see :func:`.unrolled_spikes`). A matrix product of two activations, as in attention,
adds 1 wherever two spikes meet, or, where one side alone is spikes, a row or column of the other for each of them.
Normalisations are taken as folded into the layers before them. Not counted, as is the custom: biases, pooling, residual
sums, masks; and, where operations alone are, the neurons' own updates.

With memory, the accesses are those of E. Lemaire et al., "An analytical estimation of spiking neural networks energy
efficiency", ICONIP 2022 (arXiv 2210.13107), each at the price of one 32-bit word in a small SRAM, whatever the layer's
size. Nothing is kept in registers but the sum that a multiplication adds to:

- An addition reads the weight, and reads and writes the membrane potential that it is added to.
- A multiplication reads the weight and the number that it is multiplied with; a number that a layer is given was
  written once.
- A neuron reads, multiplies (its leak) and writes its membrane potential in every time step.
- A spike is written as an address, and read, once for every layer that is given it.

Beside it stands the network that Z. Yan et al., "Reconsidering the energy efficiency of spiking neural networks", 2024
(arXiv 2409.08290) compare with: the same layers, once, on activations of :math:`\lceil\log_2(T+1)\rceil` bits, which
tell as many values apart as counts of up to T spikes (behind I-LIF neurons, T times as many as one gives). Its weights,
and the numbers that the spiking network multiplies with (an image, means), are the spiking network's own. Whole numbers
of 32 bits; a product of fewer takes as much less. Zeros of padding cost neither; zeros among its activations are not
made use of, nor, in either network, weights that could be read once for several outputs.
"""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from math import inf, nan, prod
from typing import Any

import torch
from torch import nn

from ..inspection import hooked, preserving_state
from ..introspection.attachment import describe
from ..introspection.libraries import libraries_of
from ..introspection.neurons import neurons, stepwise
from ..introspection.probing import Run
from ..method import Shortcut
from ..method.batches import primary
from ..method.passes import Reset, call_on, dry_copy
from ..method.taps import first_tensor
from ..nets.network import SpikingNetwork
from .operations import COUNTED, LayerOperations, count_operations

# Picojoules in 45 nm, 32-bit floating point: M. Horowitz, "Computing's energy problem (and what we can do about it)",
# ISSCC 2014: 3.7 for a multiplication and 0.9 for an addition.
MULTIPLY_ACCUMULATE = 4.6
ADDITION = 0.9

# The same source, 32-bit whole numbers: 3.1 for a multiplication (0.2 for one of 8 bits: by the product of the widths)
# and 0.1 for an addition; 10 for 64 bits of an SRAM of 8 KB.
WORD = 32
PRODUCT = 3.1
SUM = 0.1
ACCESS = 5.0
UPDATE = 2 * ACCESS + PRODUCT + SUM


def _multiplied(products: float, numbers: float, bits: int) -> float:
    """With memory, of products with numbers of so many bits, and of the writing of these numbers."""
    share = bits / WORD
    return products * (share * PRODUCT + SUM + (1 + share) * ACCESS) + numbers * share * ACCESS


@dataclass(frozen=True)
class LayerEnergy:
    """One layer, for one input."""

    layer: str
    additions: float
    multiplications: float
    relu_multiplications: float
    """Of the same layer in the same network with ReLUs, which sees the input once."""
    synapses: float
    """The same, padding left out: additions if every input were a spike, once."""
    inputs: float
    """Spikes or numbers that it is given in all time steps, zeros included."""
    relu_inputs: float
    """Those of the network that sees the input once."""
    spikes: float
    """That it is given."""
    updates: float
    """Membrane potentials computed by the neurons behind it."""
    bits: int = field(kw_only=True)
    """Of its inputs in the quantised network; 32 for those that are numbers in the spiking one."""

    @property
    def energy(self) -> float:
        """In picojoules."""
        return ADDITION * self.additions + MULTIPLY_ACCUMULATE * self.multiplications

    @property
    def relu_energy(self) -> float:
        """In picojoules."""
        return MULTIPLY_ACCUMULATE * self.relu_multiplications

    @property
    def firing_rate(self) -> float:
        """Spikes per input and time step; NaN of a layer that multiplies."""
        return nan if self.multiplications or not self.inputs else self.spikes / self.inputs

    @property
    def spike_energy(self) -> float:
        """What depends on the firing rate of the energy with memory, in picojoules."""
        return (SUM + 3 * ACCESS) * self.additions + 2 * ACCESS * self.spikes

    @property
    def total_energy(self) -> float:
        """With memory, in picojoules."""
        energy = self.spike_energy + UPDATE * self.updates
        if self.multiplications:
            passes = self.multiplications / self.relu_multiplications
            energy += _multiplied(passes * self.synapses, self.inputs, WORD)
        return energy

    @property
    def quantised_energy(self) -> float:
        """With memory, of the same layer in the quantised network, in picojoules."""
        return _multiplied(self.synapses, self.relu_inputs, self.bits)

    @property
    def break_even_rate(self) -> float:
        """See :attr:`EnergyReport.break_even_rate`."""
        return _break_even(self)


@dataclass(frozen=True)
class EnergyReport:
    """A network, for one input: the mean over those that were counted."""

    layers: tuple[LayerEnergy, ...]
    uncounted: tuple[str, ...] = ()
    """Weights of modules that are not known, as of recurrent cells, or that were not called: left out of the energy."""

    @property
    def energy(self) -> float:
        """Of operations alone, in picojoules."""
        return sum(layer.energy for layer in self.layers)

    @property
    def relu_energy(self) -> float:
        """Of operations alone, in picojoules, of the same network with ReLUs."""
        return sum(layer.relu_energy for layer in self.layers)

    @property
    def updates(self) -> float:
        """Membrane potentials computed; left out of the energy of operations."""
        return sum(layer.updates for layer in self.layers)

    @property
    def bits(self) -> int:
        """Of the quantised network's activations."""
        return min(layer.bits for layer in self.layers)

    @property
    def firing_rate(self) -> float:
        """Spikes per input and time step of the layers that are given spikes; NaN if there are none."""
        fed = [layer for layer in self.layers if not layer.multiplications]
        inputs = sum(layer.inputs for layer in fed)
        return sum(layer.spikes for layer in fed) / inputs if inputs else nan

    @property
    def spike_energy(self) -> float:
        """What depends on the firing rate of the energy with memory, in picojoules."""
        return sum(layer.spike_energy for layer in self.layers)

    @property
    def total_energy(self) -> float:
        """With memory, in picojoules: see the module's text for what is counted."""
        return sum(layer.total_energy for layer in self.layers)

    @property
    def quantised_energy(self) -> float:
        """With memory, of the same network on activations of ``bits`` bits, which sees the input once; picojoules."""
        return sum(layer.quantised_energy for layer in self.layers)

    @property
    def break_even_rate(self) -> float:
        """The firing rate below which the spiking network takes less energy with memory than the quantised one.

        All layers' rates are thought to rise and fall together. 0 if no rate is low enough; NaN if nothing fires.
        """
        return _break_even(self)

    def at(self, rate: float) -> float:
        """Return the energy with memory at another firing rate, in picojoules; NaN if nothing fires."""
        fixed = self.total_energy - self.spike_energy
        return fixed + self.spike_energy * rate / self.firing_rate if self.spike_energy else nan


def _break_even(found: LayerEnergy | EnergyReport) -> float:
    spikes = found.spike_energy
    spare = found.quantised_energy - (found.total_energy - spikes)
    return max(spare, 0.0) / spikes * found.firing_rate if spikes else nan


# Looked up, not multiplied with; or folded into the layers before.
_FREE = (nn.Embedding, nn.EmbeddingBag, nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def measure_energy(
    network: nn.Module, inputs: Sequence[Any], time_steps: int | None = None, *, reset: Reset | None = None
) -> EnergyReport:
    """Run inputs through a network in eval mode and return the energy of one of them; the network is left as it was.

    How a network of others is called, where samples lie in its input, and what puts it to rest is found as
    :func:`shortcut_snn.attach` does; each batch begins at rest. Weights that were not counted are named in a warning.

    Args:
        network: any with convolutions and linear layers; or a wrapper of :func:`shortcut_snn.attach`, which is how to
            say what cannot be found.
        inputs: batches as the network, or wrapper, takes them.
        time_steps: T; by default as found.
        reset: puts the neurons to rest; by default it is found.

    Raises:
        ValueError: no inputs, none of these layers, or something cannot be told about the network.

    Example:
        >>> from torch import nn
        >>> from shortcut_snn.neurons import IF
        >>> network = nn.Sequential(nn.Flatten(2), IF(), nn.Linear(12, 10))
        >>> report = measure_energy(network, [torch.full((4, 2, 3, 2, 2), 0.5)], time_steps=4)
        >>> report.layers[0].additions  # each of 12 neurons fires once in 4 steps, at the third
        120.0
        >>> f"{report.energy:.1f} pJ, {report.relu_energy:.1f} pJ with ReLUs"
        '108.0 pJ, 552.0 pJ with ReLUs'
        >>> f"with memory {report.total_energy:.1f} pJ, on {report.bits} bits {report.quantised_energy:.1f} pJ"
        'with memory 2565.6 pJ, on 3 bits 708.8 pJ'
        >>> f"it fires at {report.firing_rate:.0%}; break-even at {report.break_even_rate:.1%}"
        'it fires at 25%; break-even at 1.0%'
    """
    inside = network.network if isinstance(network, Shortcut) else network
    if not any(primary(batch).numel() for batch in inputs):
        raise ValueError("give at least one input to count operations of")
    if not any(isinstance(module, COUNTED) for module in nn.Module.modules(inside)):
        raise ValueError(f"{type(inside).__name__} has no convolutions or linear layers to count operations of")
    way = way_of(network, inputs[0], time_steps, reset)
    twin = way.copied(inside)
    samples = sum(way.samples(batch) for batch in inputs)
    sums: dict[str, list[float]] = {}
    most: dict[str, int] = {}
    others: set[str] = set()
    with preserving_state(twin, training=False), torch.no_grad():
        if way.time_steps is None:
            way = replace(way, time_steps=_steps_inside(way, twin, inputs[0]))
        for batch in inputs:
            way.rest(twin)
            with count_operations(twin) as found:
                call_on(twin, way.run, batch)
            others |= found.uncounted
            for name, layer in found.layers.items():
                steps = min(_steps(layer, way.samples(batch), way.lead(batch)), way.time_steps or inf)
                counted = layer.additions, layer.multiplications, layer.spikes
                # All are numbers if any are: the same whether time steps come in one call or each in its own.
                added, multiplied, fired = (0, layer.dense, 0) if layer.numbers else counted
                seen = [added, multiplied, layer.dense / steps, layer.synapses / steps]
                seen += [layer.inputs, layer.inputs / steps, fired, layer.updates]
                sums[name] = [a + b for a, b in zip(sums.get(name, [0.0] * len(seen)), seen, strict=True)]
                most[name] = layer.most
    fed_spikes = [values[0] > values[1] for values in sums.values()]
    if any(fed_spikes[1:]) and not any(values[7] for values in sums.values()):
        others.add("membrane potentials, since no neuron is of a library that is known")
    uncounted = (*_uncounted(inside, (name for name, values in sums.items() if values[2])), *sorted(others))
    if uncounted:
        warnings.warn(
            f"not counted in the energy of {type(inside).__name__}: {', '.join(uncounted)}, weights of modules that "
            "are not known, or were not called, or functions that multiply",
            stacklevel=2,
        )
    # ceil(log2(n + 1)) for up to n spikes.
    layers = (
        LayerEnergy(
            name,
            *(value / samples for value in values),
            bits=WORD if values[1] else ((way.time_steps or 1) * most[name]).bit_length(),
        )
        for name, values in sums.items()
    )
    return EnergyReport(tuple(layers), uncounted)


@dataclass(frozen=True)
class Way:
    """How batches are sent through a network."""

    run: Run | None
    reset: Reset | None
    batch_axis: int | None
    time_steps: int | None
    stateful: bool

    def copied(self, network: nn.Module) -> nn.Module:
        """A copy that shares nothing which a pass may change; ours keep nothing."""
        return dry_copy(network, self.reset) if self.stateful else network

    def rest(self, network: nn.Module) -> None:
        """Put its neurons to rest."""
        if self.reset is not None:
            self.reset(network)

    def samples(self, batch: Any) -> int:
        """Return how many samples a batch has."""
        shape = primary(batch).shape
        axis = (1 if len(shape) == 5 else 0) if self.batch_axis is None else self.batch_axis
        return int(shape[axis])

    def lead(self, batch: Any) -> tuple[int, int]:
        """The first two axes of a layer that is given all time steps of a batch."""
        shape, samples = primary(batch).shape, self.samples(batch)
        steps = self.time_steps or 1
        first = self.batch_axis == 0 and len(shape) in (3, 5) and shape[1] == steps
        return (samples, steps) if first else (steps, samples)


def way_of(network: nn.Module, example: Any, time_steps: int | None, reset: Reset | None) -> Way:
    """Find how batches like an example are sent through a network; see :func:`measure_energy`."""
    inside = network.network if isinstance(network, Shortcut) else network
    if isinstance(inside, SpikingNetwork) and not libraries_of(inside):
        return Way(None, reset, None, time_steps or inside.time_steps, reset is not None)
    if isinstance(network, Shortcut) and network.description is not None:
        known = network.description
        return Way(network.run, reset or network._reset, known.batch_axis, time_steps or known.time_steps, True)
    if isinstance(network, Shortcut):
        reset = reset or network._reset
    try:
        try:
            found = describe(inside, example, reset=reset or "auto")
        except ValueError:
            if time_steps != 1:
                raise
            found = describe(inside, example, loop="network", reset=reset or "auto")
    except ValueError as error:
        raise ValueError(f"{error} (an argument of attach: what it returns can be measured as well)") from error
    return Way(found.run, found.reset, found.batch_axis, time_steps or found.time_steps, True)


def _steps_inside(way: Way, network: nn.Module, batch: Any) -> int | None:
    """Return T of a network that goes through time inside, told by what its neurons give; None if none are known."""
    seen: dict[str, int] = {}
    by_steps = stepwise(network)

    def note(name: str, module: nn.Module, args: Any, output: Any) -> None:
        seen[name] = seen.get(name, 0) + 1 if name in by_steps else len(first_tensor(output))

    way.rest(network)
    with hooked(neurons(network), note):
        call_on(network, way.run, batch)
    return min(seen.values(), default=None)


def _uncounted(network: nn.Module, counted: Iterable[str]) -> tuple[str, ...]:
    """Parameters of two axes and more that belong to no layer that was counted."""
    inside = tuple(f"{name}." for name in counted)
    found = []
    for name, module in nn.Module.named_modules(network):
        if isinstance(module, _FREE) or f"{name}.".startswith(inside) or (inside == (".",) and not name):
            continue
        for own, weight in module._parameters.items():
            if weight is not None and sum(size > 1 for size in weight.shape) > 1:
                found.append(f"{name}.{own}".lstrip("."))
    return tuple(found)


def _steps(layer: LayerOperations, samples: int, first: tuple[int, int]) -> float:
    """Return how often a layer saw each sample: once if it sees a constant image or a mean over time."""
    seen = 0
    for sizes, calls in layer.lead.items():
        rows = prod(sizes)
        if layer.tokens and sizes[:2] == first:
            rows = prod(first)
        elif layer.tokens and sizes[:1] in ((samples,), (prod(first),)):
            rows = sizes[0]
        seen += calls * rows
    return max(seen / samples, 1.0)
