"""Neurons that run in one pass: custom operators with compiled kernels behind them."""

from .backend import Backend, get_backend, kernels_run, set_backend, use_backend

__all__ = ["Backend", "get_backend", "kernels_run", "set_backend", "use_backend"]
