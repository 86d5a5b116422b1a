"""Spikes that carry their bits, so that layers after them can save the bits for the backward pass.

A :class:`~.norm_neuron.NormNeuron` attaches the bits to its output, as an attribute of the tensor. ``SpikeConv2d``,
``SpikeMaxPool2d`` and the residual of the next ``NormNeuron`` look for them, and save 1 bit per element instead of a
number. Other layers and hooks see an ordinary tensor. A tensor derived from it, or changed in place, carries no bits.

The operators that save bits are compiled by ``torch.compile`` without a graph break. For layers of other libraries
there is :mod:`.packing_hooks`, which works for any layer but breaks the graph.
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
    """Return the current choice: ``"auto"`` by default; see :func:`set_packing`.

    Example:
        >>> from shortcut_snn.neurons import get_packing, use_packing
        >>> with use_packing("never"):
        ...     get_packing()
        'never'
    """
    return _packing


def set_packing(when: Packing) -> None:
    """Choose for the whole process when spikes are saved as bits, 16 to 64 times smaller.

    Gradients stay the same to the last bit. The backend ``"eager"`` never packs spikes.

    Args:
        when: ``"auto"`` packs where the compiled kernels do it, at almost no cost. ``"always"`` also packs in plain
            PyTorch, which costs extra passes over memory. ``"never"`` does not pack.

    Raises:
        ValueError: an unknown choice.

    Example:
        >>> set_packing(get_packing())
    """
    global _packing
    if when not in get_args(Packing):
        raise ValueError(f"packing must be one of {', '.join(get_args(Packing))}, got {when!r}")
    _packing = when


@contextmanager
def use_packing(when: Packing) -> Iterator[None]:
    """Choose within a ``with`` block when spikes are saved as bits; see :func:`set_packing`.

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


def should_pack(spikes: Tensor) -> bool:
    """Return whether to pack spikes of this size, dtype and device."""
    if not torch.is_grad_enabled() or _packing == "never" or get_backend() == "eager" or spikes.numel() == 0:
        return False
    if is_exported():
        return False
    return _packing == "always" or kernels_run(spikes)


def with_bits(spikes: Tensor, bits: Tensor) -> Tensor:
    """Return spikes that carry their bits: the same tensor, or a view of it in a compiled network.

    Example:
        >>> from shortcut_snn.neurons import pack_spikes
        >>> spikes = torch.ones(1, 2, 32)
        >>> bits_of(with_bits(spikes, pack_spikes(spikes))).shape
        torch.Size([1, 8])
    """
    if torch.compiler.is_compiling():
        # The compiler cannot set attributes on an output of an operator with several outputs.
        spikes = spikes.view_as(spikes)
    spikes._shortcut_snn_bits = (bits, _version(spikes))  # type: ignore[attr-defined]
    return spikes


def bits_of(spikes: Tensor) -> Tensor | None:
    """Return the bits that a tensor carries, or None without them, or if it was changed in place since.

    Example:
        >>> print(bits_of(torch.ones(1, 2, 32)))
        None
    """
    carried: tuple[Tensor, int] | None = getattr(spikes, "_shortcut_snn_bits", None)
    if carried is None or not torch.is_grad_enabled():
        return None
    bits, version = carried
    return bits if version == _version(spikes) else None


def _version(x: Tensor) -> int:
    # The compiler sees no versions: in a compiled network a hook must not change spikes in place.
    return 0 if torch.compiler.is_compiling() else x._version
