"""Spiking neurons over whole sequences, with surrogate gradients: each is one time step, written once."""

from .allocator import keep_freed_memory
from .backend import Backend, get_backend, is_exported, set_backend, use_backend
from .current_neuron import CurrentNeuron, Membrane
from .event_layers import event_convolution, event_linear
from .modules import IF, LIF, PLIF, Neuron, is_lif
from .norm_neuron import NormNeuron
from .operators.layout import merge_time
from .packing import bits_of, count_spikes, pack, saved_as_bits, with_bits, with_bits_of
from .packing_hooks import packed_spikes
from .rate import RatePasses
from .step_functions import per_channel, straight_through
from .surrogate import ATan, NormalisedTanh, Rectangle, Resizable, Scaled, Sigmoid, Surrogate, Tanh, Triangle
from .variants.alif import ALIF
from .variants.clif import CLIF
from .variants.ilif import ILIF, unrolled_spikes
from .variants.klif import KLIF
from .variants.psn import PSN
from .variants.rlif import RLIF
from .variants.synaptic import Synaptic

__all__ = [
    "ALIF", "CLIF", "IF", "ILIF", "KLIF", "LIF", "PLIF", "PSN", "RLIF", "ATan", "Backend", "CurrentNeuron",
    "Membrane", "Neuron", "NormNeuron", "NormalisedTanh", "RatePasses", "Rectangle", "Resizable", "Scaled",
    "Sigmoid", "Surrogate", "Synaptic", "Tanh", "Triangle", "bits_of", "count_spikes", "event_convolution",
    "event_linear", "get_backend", "is_exported", "is_lif", "keep_freed_memory", "merge_time", "pack",
    "packed_spikes", "per_channel", "saved_as_bits", "set_backend", "straight_through", "unrolled_spikes",
    "use_backend", "with_bits", "with_bits_of",
]  # fmt: skip
