"""The tensors in a network's output, and their names in messages."""

from typing import Any

from torch import Tensor

from ..method.layout import entries

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


def name_of(path: Path) -> str:
    """Return a path as the subject of a sentence."""
    return f"{indexed(path)} " if path else "a tensor "


def indexed(path: Path) -> str:
    """Return a path in Python."""
    return "output" + "".join(f"[{key!r}]" for key in path)


def described(output: Any, depth: int = 2) -> str:
    """Describe an output that is not logits, and what is in it."""
    if isinstance(output, Tensor):
        return f"a tensor of shape {tuple(output.shape)}" if output.dim() else "a single number, as of a loss"
    inside = [described(value, depth - 1) for value in entries(output).values()] if depth else []
    listed = ", ".join(dict.fromkeys(inside)) if len(inside) <= 8 else f"{inside[0]}, ..."
    return f"{type(output).__name__}" + (f" of {len(inside)} entries ({listed})" if inside else "")


def is_spikes(tensor: Any) -> bool:
    """Return whether all values are zeros and ones."""
    return bool(((tensor == 0) | (tensor == 1)).all())
