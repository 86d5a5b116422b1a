"""Initialise a deep network by measurement, so that every block passes on its input and its gradient."""

from .initialisation import Initialisation, initialise
from .surrogates import set_surrogates

__all__ = ["Initialisation", "initialise", "set_surrogates"]
