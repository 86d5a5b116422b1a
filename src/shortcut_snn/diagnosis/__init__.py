"""Diagnose a network: a verdict on the input, firing and gradient of its layers, with remedies that were measured."""

from .diagnosis import Diagnosis, diagnose
from .verdict import Verdict, judge

__all__ = ["Diagnosis", "Verdict", "diagnose", "judge"]
