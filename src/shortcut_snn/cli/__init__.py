"""The command line: one module per command, with a function ``run(options)``. Their options are in ``_commands.py``."""

from ._main import main

__all__ = ["main"]
