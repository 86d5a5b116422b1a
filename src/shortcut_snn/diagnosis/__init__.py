"""Diagnose a network: a verdict on the input, firing and gradient of its layers, with remedies that were measured."""

from .diagnosis import Diagnosis, diagnose, diagnose_setup, neuron_remedies
from .tips import Remedy
from .verdict import Verdict, judge

__all__ = ["Diagnosis", "Remedy", "Verdict", "diagnose", "diagnose_setup", "judge", "neuron_remedies"]
