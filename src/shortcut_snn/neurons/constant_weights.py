"""Weights that are declared constant, so that a kernel prepares them only once."""

from collections.abc import Callable

from torch import Tensor

_DERIVED = "_shortcut_snn_derived"


def declare_constant(weight: Tensor) -> None:
    """Let the kernels keep a prepared weight. A later write through ``data`` or ``numpy()`` goes unnoticed."""
    setattr(weight, _DERIVED, (weight._version, None))


def derive_once(weight: Tensor, make: Callable[[Tensor], Tensor]) -> Tensor:
    """Return ``make(weight)``; for a constant weight it is called once."""
    version, derived = getattr(weight, _DERIVED, (None, None))
    if isinstance(derived, Tensor) and version == weight._version:
        return derived
    result = make(weight)
    if version is not None:
        setattr(weight, _DERIVED, (weight._version, result))
    return result
