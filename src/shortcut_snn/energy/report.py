r"""The price of counted operations: energy of a layer and of a network, in picojoules (45 nm).

Two estimates are made for the spiking network.

**Operations alone.** An AC costs :data:`ACCUMULATE`, a MAC costs :data:`MULTIPLY_ACCUMULATE`. Both are prices of 32-bit
floating point. Memory and the updates of the membrane are free. The baseline is the same network with ReLUs, which does
one MAC per synapse and sees the input once.

**With memory.** The accesses are those of E. Lemaire et al., "An analytical estimation of spiking neural networks
energy efficiency", ICONIP 2022 (arXiv 2210.13107). Every access costs the same: one 32-bit word in a small SRAM.

- An AC reads the weight, and reads and writes the membrane potential.
- A MAC reads the weight and the input, and keeps the sum in a register. An input that is a number was written once.
- A membrane update reads, multiplies (the leak) and writes the potential. It happens in every time step.
- A spike is written as an address, and read once by every layer that receives it.

The baseline is the quantised network of Z. Yan et al., "Reconsidering the energy efficiency of spiking neural
networks", 2024 (arXiv 2409.08290). It runs the same layers once on activations of :math:`\lceil\log_2(T+1)\rceil`
bits. They distinguish as many values as the counts of up to T spikes; an I-LIF neuron of up to D gives up to TD.
Weights have 32 bits in both networks, and so do inputs that are numbers in the spiking network, such as an image.
Arithmetic is that of 32-bit integers; a product with fewer bits costs proportionally less. Padding costs nothing. Zeros
among the activations of the quantised network are not skipped, and weights are read again for each output.
"""

from dataclasses import dataclass
from math import nan

from .._utils.markdown import markdown_table

# M. Horowitz, "Computing's energy problem (and what we can do about it)", ISSCC 2014, picojoules in 45 nm.
# 32-bit floating point: 3.7 for a multiplication, 0.9 for an addition.
MULTIPLY_ACCUMULATE = 4.6
ACCUMULATE = 0.9
# 32-bit integers: 3.1 for a multiplication, 0.1 for an addition. An SRAM of 8 KB takes 10 for 64 bits.
WORD_BITS = 32
INTEGER_PRODUCT = 3.1
INTEGER_SUM = 0.1
ACCESS = 5.0


def _mac_energy_with_memory(macs: float, inputs: float, bits: int) -> float:
    """Return the energy of MACs on inputs of some bits, and of writing these inputs, in picojoules."""
    share = bits / WORD_BITS
    mac = share * INTEGER_PRODUCT + INTEGER_SUM + (1 + share) * ACCESS
    return macs * mac + inputs * share * ACCESS


@dataclass(frozen=True)
class LayerEnergy:
    """Operations and energy of one layer for one input sample."""

    layer: str
    acs: float  # accumulates (AC)
    macs: float  # multiply-accumulates (MAC), padding included
    relu_macs: float  # MACs of the layer in the same network with ReLUs, which sees the input once
    synapses: float  # relu_macs without padding: the ACs if every input were a spike in a single time step
    inputs: float  # input elements in all time steps, zeros included
    relu_inputs: float  # input elements of the network with ReLUs
    spikes: float  # input spikes
    updates: float  # membrane potentials computed by the neurons after the layer
    bits: int  # bits of an input in the quantised network; 32 if the input is numbers in the spiking network

    @property
    def energy(self) -> float:
        """Energy of the operations alone, in picojoules."""
        return ACCUMULATE * self.acs + MULTIPLY_ACCUMULATE * self.macs

    @property
    def relu_energy(self) -> float:
        """Energy of the operations alone in the network with ReLUs, in picojoules."""
        return MULTIPLY_ACCUMULATE * self.relu_macs

    @property
    def firing_rate(self) -> float:
        """Spikes per input element and time step; NaN if the inputs are numbers."""
        return nan if self.macs or not self.inputs else self.spikes / self.inputs

    @property
    def spike_energy(self) -> float:
        """Share of ``total_energy`` that is proportional to the firing rate, in picojoules."""
        return (INTEGER_SUM + 3 * ACCESS) * self.acs + 2 * ACCESS * self.spikes

    @property
    def total_energy(self) -> float:
        """Energy with memory, in picojoules."""
        energy = self.spike_energy + (2 * ACCESS + INTEGER_PRODUCT + INTEGER_SUM) * self.updates
        if self.macs:
            passes = self.macs / self.relu_macs
            energy += _mac_energy_with_memory(passes * self.synapses, self.inputs, WORD_BITS)
        return energy

    @property
    def quantised_energy(self) -> float:
        """Energy with memory of the layer in the quantised network, in picojoules."""
        return _mac_energy_with_memory(self.synapses, self.relu_inputs, self.bits)

    @property
    def break_even_rate(self) -> float:
        """The firing rate at which the layer costs as much as in the quantised network."""
        return _break_even_rate(self)


@dataclass(frozen=True, repr=False)
class EnergyReport:
    """Operations and energy of a network for one input sample, the mean over the samples measured.

    Printed or shown by a notebook, it is a table.
    """

    layers: tuple[LayerEnergy, ...]
    uncounted: tuple[str, ...] = ()
    """Weights and products that are left out of the energy, such as the weights of recurrent cells."""

    @property
    def energy(self) -> float:
        """Energy of the operations alone, in picojoules."""
        return sum(layer.energy for layer in self.layers)

    @property
    def relu_energy(self) -> float:
        """Energy of the operations alone in the same network with ReLUs, in picojoules."""
        return sum(layer.relu_energy for layer in self.layers)

    @property
    def updates(self) -> float:
        """Membrane potentials computed; ``energy`` leaves them out."""
        return sum(layer.updates for layer in self.layers)

    @property
    def bits(self) -> int:
        """Bits of the quantised network's activations."""
        return min(layer.bits for layer in self.layers)

    @property
    def firing_rate(self) -> float:
        """Spikes per input element and time step, over the layers that receive spikes; NaN if none does."""
        spiking = [layer for layer in self.layers if not layer.macs]
        inputs = sum(layer.inputs for layer in spiking)
        return sum(layer.spikes for layer in spiking) / inputs if inputs else nan

    @property
    def spike_energy(self) -> float:
        """Share of ``total_energy`` that is proportional to the firing rate, in picojoules."""
        return sum(layer.spike_energy for layer in self.layers)

    @property
    def total_energy(self) -> float:
        """Energy with memory, in picojoules."""
        return sum(layer.total_energy for layer in self.layers)

    @property
    def quantised_energy(self) -> float:
        """Energy with memory of the quantised network, which sees the input once, in picojoules."""
        return sum(layer.quantised_energy for layer in self.layers)

    @property
    def break_even_rate(self) -> float:
        """The firing rate below which the spiking network takes less energy with memory than the quantised one.

        The rates of all layers rise and fall together. The result is 0 if no rate is low enough, NaN if no layer
        receives a spike.
        """
        return _break_even_rate(self)

    def __repr__(self) -> str:
        parts: list[tuple[str, float, float, LayerEnergy | EnergyReport]]
        parts = [(layer.layer, layer.acs, layer.macs, layer) for layer in self.layers]
        acs, macs = (sum(getattr(layer, name) for layer in self.layers) for name in ("acs", "macs"))
        energies = ("energy", "relu_energy", "total_energy", "quantised_energy")
        cells = [
            [name, f"{acs:,.0f}", f"{macs:,.0f}", *(with_unit(getattr(part, key)) for key in energies),
             "-" if part.firing_rate != part.firing_rate else f"{100 * part.firing_rate:.3g} %"]
            for name, acs, macs, part in [*parts, ("network", acs, macs, self)]
        ]  # fmt: skip
        columns = ["layer", "ACs", "MACs", "energy", "with ReLUs", "with memory", "quantised", "firing rate"]
        notes = [f"not counted: {', '.join(self.uncounted)}"] if self.uncounted else []
        return "\n".join(["one input, 45 nm:", markdown_table(columns, cells), *notes])

    def at(self, rate: float) -> float:
        """Return the energy with memory at another firing rate, in picojoules; NaN if no layer receives a spike."""
        fixed = self.total_energy - self.spike_energy
        return fixed + self.spike_energy * rate / self.firing_rate if self.spike_energy else nan


def with_unit(picojoules: float) -> str:
    """Return an energy with four significant digits and its unit, as in ``"16.89 µJ"``."""
    for unit, size in (("mJ", 1e9), ("µJ", 1e6), ("nJ", 1e3)):
        if picojoules >= size:
            return f"{picojoules / size:.4g} {unit}"
    return f"{picojoules:.4g} pJ"


def break_even_text(rate: float) -> str:
    """Return the firing rate at which a spiking network costs as much as a quantised one, in words."""
    return f"break even at a firing rate of {100 * rate:.3g} %" if rate > 0 else "never break even"


def _break_even_rate(energy: LayerEnergy | EnergyReport) -> float:
    fixed = energy.total_energy - energy.spike_energy
    spare = max(energy.quantised_energy - fixed, 0.0)
    return spare / energy.spike_energy * energy.firing_rate if energy.spike_energy else nan
