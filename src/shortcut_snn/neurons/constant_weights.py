"""Weights that are declared constant: what a kernel makes of them is made once."""

from collections.abc import Callable

from torch import Tensor

_MADE = "_shortcut_snn_made"


def declare_constant(weight: Tensor) -> None:
    """Let the kernels keep what they make of a weight. A later write through ``data`` or ``numpy()`` goes unnoticed."""
    setattr(weight, _MADE, (weight._version, None))


def made_of(weight: Tensor, make: Callable[[Tensor], Tensor]) -> Tensor:
    """Return what a function makes of a weight; of a constant one the result of the first call."""
    version, made = getattr(weight, _MADE, (None, None))
    if isinstance(made, Tensor) and version == weight._version:
        return made
    result = make(weight)
    if version is not None:
        setattr(weight, _MADE, (weight._version, result))
    return result
