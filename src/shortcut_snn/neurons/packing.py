"""Save spikes for the backward pass as bits: 1 bit per element instead of a number.

``torch.autograd.graph.saved_tensors_hooks`` shows every tensor that an operation saves. A tensor in the memory of
spikes is replaced by bits, and unpacked when the backward pass needs it, so gradients stay the same to the last bit.

- A neuron attaches the bits, which its kernel writes, to its output. ``SpikeConv2d``, ``SpikeLinear``,
  ``SpikeMaxPool2d`` and the residual of the next ``NormNeuron`` look for them. Other layers see an ordinary tensor.
- With the bits comes the *support* of the surrogate, if it is bounded: the neurons whose derivative is not 0, as bits.
  The others multiply the gradient of their spikes by 0, so layers need not compute it.

The bits of ``[T, ...]`` are bytes ``[T, row]``. A row holds the elements of a time step in the order of memory
(contiguous or channels-last). The first element is the lowest bit of the first byte, and zeros fill the last 64-bit
word. Spikes are packed where the compiled kernels run, except in a network that is compiled or exported. Within
``torch.inference_mode`` they are not packed either, since torch does not record there whether a tensor has changed.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeAlias
from weakref import ref

import numpy as np
import torch
from torch import Tensor

from .backend import implementation
from .operators.layout import is_channels_last, to_layout


def should_pack() -> bool:
    """Return whether the kernels pack their spikes."""
    return not (torch.compiler.is_compiling() or torch.is_inference_mode_enabled())


def pack(spikes: Tensor) -> Tensor:
    """Return spikes ``[T, N, ...]`` as bits."""
    return implementation(spikes).pack(to_layout(spikes.detach(), is_channels_last(spikes)))


# A tensor of spikes, and its hooks, which outlive it.
Holder: TypeAlias = "tuple[ref[Tensor], Mapping[int, Any] | None]"


def with_bits(spikes: Tensor, bits: Tensor, support: Tensor | None = None, holders: tuple[Holder, ...] = ()) -> Tensor:
    """Return spikes ``[T, N, ...]`` or ``[T * N, ...]``, with their bits ``[T, row]`` and those of their support."""
    if spikes.is_inference():
        # They do not count their changes, so their bits could not be trusted.
        return spikes
    if support is not None and spikes.requires_grad and spikes._backward_hooks is None:
        # Makes the mapping of hooks, where those that are registered later are seen.
        spikes.register_hook(lambda grad: None).remove()  # type: ignore[no-untyped-call]
    holders = (*holders, (ref(spikes), spikes._backward_hooks))
    carried = _Carried(bits, support, spikes._version, _address(spikes, bits), holders)
    spikes._shortcut_snn_bits = carried  # type: ignore[attr-defined]
    return spikes


@dataclass(frozen=True)
class _Carried:
    """Bits that spikes carry, and the state of the spikes then: torch's count of in-place changes, and the address.

    An assignment to ``data`` replaces the address. ``holders`` are the spikes, and the spikes that they are a view of.
    """

    bits: Tensor
    support: Tensor | None
    version: int
    address: int
    holders: tuple[Holder, ...]

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle as an empty size, which ``torch.load`` allows: a copy has another memory."""
        return torch.Size, ()


def _address(spikes: Tensor, bits: Tensor) -> int:
    # Tensors without data have no address.
    return spikes.data_ptr() if type(bits) is Tensor else 0


def _carried(spikes: Tensor) -> _Carried | None:
    # Inference tensors do not count their changes, and transforms of torch.func know plain operations only.
    if torch.compiler.is_compiling() or spikes.is_inference() or torch._C._are_functorch_transforms_active():
        return None
    carried: _Carried | None = getattr(spikes, "_shortcut_snn_bits", None)
    if not carried or (carried.version, carried.address) != (spikes._version, _address(spikes, carried.bits)):
        return None
    return carried


def with_bits_of(spikes: Tensor, view: Tensor) -> Tensor:
    """Return a view of spikes, in the same order of memory, with their packed bits attached."""
    carried = _carried(spikes)
    return view if carried is None else with_bits(view, carried.bits, support_of(spikes), carried.holders)


def bits_of(spikes: Tensor) -> Tensor | None:
    """Return the bits that are attached to a tensor, or None without them, or if it was changed in place since.

    As in torch, a write through ``data`` or ``numpy()`` goes unnoticed.
    """
    carried = _carried(spikes)
    return None if carried is None else carried.bits


def support_of(spikes: Tensor) -> Tensor | None:
    """Return the bits of the spikes whose gradient is needed, or None for all.

    A hook on the spikes, and ``retain_grad``, need all.
    """
    carried = _carried(spikes)
    return None if carried is None or spikes._backward_hooks or spikes.retains_grad else carried.support


def find_holders(spikes: Tensor) -> tuple[Holder, ...]:
    """Return the tensors through which someone may ask for the gradient of spikes that carry bits."""
    carried = _carried(spikes)
    return () if carried is None else carried.holders


def count_bits(bits: Tensor) -> int:
    """Return how many bits of whole 64-bit words on a CPU are set."""
    words = bits.numpy().view(np.uint64)
    # numpy counts bits since version 2.
    ones = np.bitwise_count(words) if hasattr(np, "bitwise_count") else np.unpackbits(words.view(np.uint8))
    return int(ones.sum(dtype=np.int64))


def count_spikes(spikes: Tensor) -> Tensor:
    """Return the number of spikes, 0-dimensional, with the gradient of a sum; an integer n counts as n spikes.

    On a CPU the bits are counted if the spikes carry them, which reads 1/32 of the memory.
    """
    bits = bits_of(spikes)
    if bits is None or bits.device.type != "cpu":
        return spikes.sum(dtype=torch.promote_types(spikes.dtype, torch.float32))
    count: Tensor = _CountBits.apply(spikes, bits)  # type: ignore[no-untyped-call]
    return count


class _CountBits(torch.autograd.Function):
    """The sum of spikes, from their bits."""

    @staticmethod
    def forward(ctx: Any, spikes: Tensor, bits: Tensor) -> Tensor:
        ctx.shape, ctx.dtype = spikes.shape, spikes.dtype
        return torch.tensor(float(count_bits(bits)), dtype=torch.float32, device=bits.device)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad.to(ctx.dtype).expand(ctx.shape), None


@dataclass(frozen=True)
class SavedBits:
    """A saved tensor as the bits ``[T, row]`` of the memory that it is a view of, by size, stride and offset."""

    bits: Tensor
    elements: int
    dtype: torch.dtype
    view: tuple[Sequence[int], Sequence[int], int]

    def unpack(self) -> Tensor:
        """Return the tensor as numbers."""
        memory = torch.empty(self.bits.shape[0], self.elements, dtype=self.dtype, device=self.bits.device)
        implementation(memory).unpack(self.bits, memory)
        return memory.as_strided(*self.view)


def saved_as_bits(spikes: Tensor) -> AbstractContextManager[None]:
    """Return a context in which operations save these spikes as bits, if they carry them."""
    bits = bits_of(spikes)
    if bits is None:
        return nullcontext()

    def to_saved(x: Tensor) -> SavedBits | tuple[Tensor, int]:
        if x.data_ptr() != spikes.data_ptr() or x.dtype != spikes.dtype:
            return x, x._version
        return SavedBits(bits, spikes.numel() // bits.shape[0], x.dtype, (x.shape, x.stride(), 0))

    def from_saved(saved: SavedBits | tuple[Tensor, int]) -> Tensor:
        if isinstance(saved, SavedBits):
            return saved.unpack()
        x, version = saved
        # With hooks, torch leaves this check to them.
        if x._version != version:
            raise RuntimeError(
                "one of the variables needed for gradient computation has been modified by an inplace operation: "
                f"a {x.type()} {list(x.shape)} is at version {x._version}; expected version {version} instead"
            )
        return x

    return torch.autograd.graph.saved_tensors_hooks(to_saved, from_saved)
