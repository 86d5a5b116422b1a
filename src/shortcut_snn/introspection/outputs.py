"""The tensors in what a network returns."""

from typing import Any

from torch import Tensor

from ..method import entries

Path = tuple[Any, ...]
"""The key or index of a tensor in an output; empty for an output that is a tensor."""


def tensors_of(output: Any) -> dict[Path, Tensor]:
    """Return the tensors of an output by path.

    Tensors in containers inside it are states, and left out, unless it has no other tensor of two axes or more.
    """
    if isinstance(output, Tensor):
        return {(): output}
    top = {(key,): value for key, value in entries(output).items() if isinstance(value, Tensor)}
    if any(tensor.dim() > 1 for tensor in top.values()):
        return top
    inside = {
        (key, inner): tensor
        for key, value in entries(output).items()
        for inner, tensor in entries(value).items()
        if isinstance(tensor, Tensor) and (key,) not in top
    }
    return inside or top
