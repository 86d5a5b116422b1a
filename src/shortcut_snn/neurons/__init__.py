"""Spiking neurons: IF, LIF and PLIF over whole sequences, with surrogate gradients."""

from .kernels import Backend, get_backend, set_backend, use_backend
from .modules import IF, LIF, PLIF, Neuron
from .norm_neuron import NormNeuron
from .surrogate import ATan, Rectangle, Sigmoid, Surrogate, Tanh, Triangle

__all__ = [
    "IF",
    "LIF",
    "PLIF",
    "ATan",
    "Backend",
    "Neuron",
    "NormNeuron",
    "Rectangle",
    "Sigmoid",
    "Surrogate",
    "Tanh",
    "Triangle",
    "get_backend",
    "set_backend",
    "use_backend",
]
