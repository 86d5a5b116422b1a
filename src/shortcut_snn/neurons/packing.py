"""Spikes that carry themselves as bits, so that layers behind them may keep these for the backward pass.

A layer that knows its output to be spikes hangs the bits on the tensor; a layer that profits looks for them. To all
others, hooks among them, it is a tensor as any; one that was made from it, or changed in place, carries no bits.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from torch import Tensor

from .backend import get_backend, is_exported, kernels_run

Packing = Literal["auto", "always", "never"]

_packing: Packing = "auto"


def get_packing() -> Packing:
    """Return the choice that was made: ``"auto"`` unless :func:`set_packing` said else.

    Example:
        >>> from shortcut_snn.neurons import get_packing, use_packing
        >>> with use_packing("never"):
        ...     get_packing()
        'never'
    """
    return _packing


def set_packing(when: Packing) -> None:
    """Choose for the whole process when spikes are kept for the backward pass as bits, 8 to 64 times smaller.

    Gradients are the same to the last bit. In backend ``"eager"`` spikes are never packed.

    Args:
        when: ``"auto"``: where the compiled kernels do it, at next to no cost; ``"always"``: elsewhere too, in plain
            PyTorch, at the cost of some passes over memory; ``"never"``.

    Raises:
        ValueError: another choice.

    Example:
        >>> set_packing(get_packing())
    """
    global _packing
    if when not in get_args(Packing):
        raise ValueError(f"spikes can be packed {', '.join(get_args(Packing))}, got {when!r}")
    _packing = when


@contextmanager
def use_packing(when: Packing) -> Iterator[None]:
    """Choose within a ``with`` block; see :func:`set_packing`.

    Example:
        >>> with use_packing("never"):
        ...     get_packing()
        'never'
    """
    before = _packing
    set_packing(when)
    try:
        yield
    finally:
        set_packing(before)


def packs(spikes: Tensor) -> bool:
    """Say whether spikes like these are to be packed."""
    if not torch.is_grad_enabled() or _packing == "never" or get_backend() == "eager" or spikes.numel() == 0:
        return False
    if is_exported():
        return False
    return _packing == "always" or kernels_run(spikes)


def with_bits(spikes: Tensor, bits: Tensor) -> Tensor:
    """Return a tensor of spikes with its bits hung on: itself, or in a network that is compiled a view."""
    if torch.compiler.is_compiling():
        # The compiler sets no attributes on what comes from an operator with several outputs.
        spikes = spikes.view_as(spikes)
    spikes._shortcut_snn_bits = (bits, _version(spikes))  # type: ignore[attr-defined]
    return spikes


def bits_of(spikes: Tensor) -> Tensor | None:
    """Return the bits that a tensor carries, or None where it is not known to be spikes."""
    carried: tuple[Tensor, int] | None = getattr(spikes, "_shortcut_snn_bits", None)
    if carried is None or not torch.is_grad_enabled():
        return None
    bits, version = carried
    return bits if version == _version(spikes) else None


def _version(x: Tensor) -> int:
    # A compiler sees no versions: in a compiled network a hook must not change spikes in place.
    return 0 if torch.compiler.is_compiling() else x._version
