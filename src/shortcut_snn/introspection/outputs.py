"""The tensors in what a network returns."""

from typing import Any

from torch import Tensor

from ..method import entries

Path = tuple[Any, ...]
"""The key or index of a tensor in an output; empty for an output that is a tensor."""


def tensors_of(output: Any) -> dict[Path, Tensor]:
    """Return the tensors of an output by path. Deeper ones, which are states, are left out."""
    if isinstance(output, Tensor):
        return {(): output}
    return {(key,): value for key, value in entries(output).items() if isinstance(value, Tensor)}
