"""Spiking neurons: IF, LIF and PLIF over whole sequences, with surrogate gradients."""

from .allocator import keep_freed_memory
from .current_neuron import CurrentNeuron, Membrane
from .kernels import Backend, get_backend, set_backend, use_backend
from .modules import IF, LIF, PLIF, Neuron
from .norm_neuron import NormNeuron
from .spikes import Packing, get_packing, set_packing, use_packing
from .surrogate import ATan, NormalisedTanh, Rectangle, Resizable, Sigmoid, Surrogate, Tanh, Triangle

__all__ = [
    "IF",
    "LIF",
    "PLIF",
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
    "Tanh",
    "Triangle",
    "get_backend",
    "get_packing",
    "keep_freed_memory",
    "set_backend",
    "set_packing",
    "use_backend",
    "use_packing",
]
