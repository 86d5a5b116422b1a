"""Spiking neurons over whole sequences, with surrogate gradients: each is one time step, written once."""

from .allocator import keep_freed_memory
from .backend import get_backend, set_backend, use_backend
from .modules import IF, LIF, PLIF, Neuron
from .norm_neuron import NormNeuron
from .step_functions import per_channel, straight_through
from .surrogate import ATan, NormalisedTanh, Rectangle, Resizable, Sigmoid, Surrogate, Tanh, Triangle
from .variants import ALIF, CLIF, ILIF, KLIF, PSN, RLIF, Synaptic, unrolled_spikes

__all__ = [
    "ALIF", "CLIF", "IF", "ILIF", "KLIF", "LIF", "PLIF", "PSN", "RLIF", "ATan", "Neuron", "NormNeuron",
    "NormalisedTanh", "Rectangle", "Resizable", "Sigmoid", "Surrogate", "Synaptic", "Tanh", "Triangle", "get_backend",
    "keep_freed_memory", "per_channel", "set_backend", "straight_through", "unrolled_spikes", "use_backend",
]  # fmt: skip
