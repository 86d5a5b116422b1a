"""Introspection: how any network is called, reset, laid out and read."""

from .attachment import attach

__all__ = ["attach"]
