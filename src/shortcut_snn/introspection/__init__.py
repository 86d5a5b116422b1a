"""Introspection: how any network is called, reset, laid out and read."""

from .attachment import attach
from .neurons import spiking_layers

__all__ = ["attach", "spiking_layers"]
