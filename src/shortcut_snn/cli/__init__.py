"""What a person types: one file a command, with its options, its work and its printing."""

from ._main import main

__all__ = ["main"]
