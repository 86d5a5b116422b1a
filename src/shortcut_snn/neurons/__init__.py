"""Spiking neurons: IF, LIF and PLIF over whole sequences, with surrogate gradients."""

from .modules import IF, LIF, PLIF, Neuron
from .norm_neuron import NormNeuron
from .surrogate import ATan, Rectangle, Sigmoid, Surrogate, Tanh, Triangle

__all__ = [
    "IF",
    "LIF",
    "PLIF",
    "ATan",
    "Neuron",
    "NormNeuron",
    "Rectangle",
    "Sigmoid",
    "Surrogate",
    "Tanh",
    "Triangle",
]
