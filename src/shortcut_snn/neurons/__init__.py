"""Spiking neurons over whole sequences, with surrogate gradients: each is one time step, written once."""

from .adaptive import ALIF
from .allocator import keep_freed_memory
from .clif import CLIF
from .current_neuron import CurrentNeuron, Membrane
from .ilif import ILIF, unrolled_spikes
from .kernels import Backend, get_backend, set_backend, use_backend
from .klif import KLIF
from .lowering import per_channel, straight_through
from .modules import IF, LIF, PLIF, Neuron
from .norm_neuron import NormNeuron
from .packed import packed_spikes
from .psn import PSN
from .recurrent import RLIF
from .spikes import Packing, get_packing, set_packing, use_packing
from .surrogate import ATan, NormalisedTanh, Rectangle, Resizable, Sigmoid, Surrogate, Tanh, Triangle
from .synaptic import Synaptic

__all__ = [
    "ALIF",
    "CLIF",
    "IF",
    "ILIF",
    "KLIF",
    "LIF",
    "PLIF",
    "PSN",
    "RLIF",
    "ATan",
    "Backend",
    "CurrentNeuron",
    "Membrane",
    "Neuron",
    "NormNeuron",
    "NormalisedTanh",
    "Packing",
    "Rectangle",
    "Resizable",
    "Sigmoid",
    "Surrogate",
    "Synaptic",
    "Tanh",
    "Triangle",
    "get_backend",
    "get_packing",
    "keep_freed_memory",
    "packed_spikes",
    "per_channel",
    "set_backend",
    "set_packing",
    "straight_through",
    "unrolled_spikes",
    "use_backend",
    "use_packing",
]
