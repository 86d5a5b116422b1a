"""Plain PyTorch, and networks of ours: neurons that keep nothing between calls."""

from torch import nn

from .library import Library


def _no(module: nn.Module) -> bool:
    return False


PLAIN = Library("plain PyTorch", _no, _no, reset=None, time_axis=0)
