"""Spikes kept as bits for the backward pass of any layer that takes them, of this library or another's.

``torch.autograd.graph.saved_tensors_hooks`` shows what each operation keeps. What lies in the memory that a spiking
module's output lies in, unchanged, is kept as its bits, once for all who keep it, and written out on the way back.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn

from .norm_neuron import NormNeuron
from .operators.bits import pack, unpack


class _Kept:
    """A tensor as bits, and how it lies in memory."""

    def __init__(self, bits: Tensor, like: Tensor) -> None:
        self.bits, self.dtype = bits, like.dtype
        self.size, self.stride, self.offset = like.size(), like.stride(), like.storage_offset()

    def restored(self, elements: int) -> Tensor:
        flat = unpack(self.bits, (1, elements), False, self.dtype)
        return flat.as_strided(self.size, self.stride, self.offset)


class _Output:
    """What a module gave, while anyone holds it."""

    def __init__(self, spikes: Tensor) -> None:
        self.spikes, self.version, self.elements = ref(spikes), spikes._version, spikes.numel()
        self.bits: Tensor | None = None

    def kept(self, x: Tensor) -> "_Kept | None":
        spikes = self.spikes()
        if spikes is None or spikes._version != self.version or x.dtype != spikes.dtype:
            return None
        if self.bits is None:
            flat = spikes.detach().as_strided((1, self.elements), (self.elements, 1))
            # A neuron of another library may give counts, or currents; most that is no spikes shows it at once.
            if not all(torch.equal(part * part, part) for part in (flat[:, :1024], flat)):
                self.version = -1
                return None
            self.bits = pack(flat)
        return _Kept(self.bits, x)


@contextmanager
def packed_spikes(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Keep, within the block, what these modules give for the backward pass as bits, whoever takes it.

    Gradients are the same to the last bit. What is not 0 and 1 alone, or was changed in place, is kept as it is. A
    network that is compiled breaks its graph here; ``SpikeConv2d`` and ``SpikeMaxPool2d`` of :mod:`~shortcut_snn.nets`
    do without this.

    Args:
        modules: what fires, such as all neurons of a network, or all its modules.

    Example:
        >>> from shortcut_snn.neurons import LIF
        >>> network = nn.Sequential(nn.Linear(64, 64), LIF(), nn.Linear(64, 10))
        >>> with packed_spikes(module for module in network if isinstance(module, LIF)):
        ...     loss = network(torch.rand(4, 8, 64)).sum()
        >>> loss.backward()
    """
    outputs: dict[int, _Output] = {}
    modules = list(modules)
    # With hooks inside they would not be one layer.
    inside = {id(part) for module in modules if isinstance(module, NormNeuron) for part in module.children()}

    def note(module: nn.Module, args: Any, output: Any) -> None:
        spikes = output[0] if isinstance(output, tuple) else output
        # Bits are of whole memory, from its beginning to its end.
        whole = isinstance(spikes, Tensor) and spikes.untyped_storage().nbytes() == spikes.nbytes
        # For inference tensors there is no way back.
        if whole and spikes.is_floating_point() and spikes.numel() and not spikes.is_inference():
            outputs[spikes.untyped_storage()._cdata] = _Output(spikes)

    def to_bits(x: Tensor) -> tuple[Tensor, int] | Callable[[], Tensor]:
        found = outputs.get(x.untyped_storage()._cdata) if x.layout == torch.strided else None
        kept = None if found is None else found.kept(x)
        if kept is None or found is None:
            return x, x._version
        elements = found.elements
        return lambda: kept.restored(elements)

    def from_bits(kept: tuple[Tensor, int] | Callable[[], Tensor]) -> Tensor:
        if not isinstance(kept, tuple):
            return kept()
        x, version = kept
        # With hooks, torch leaves this to them.
        if x._version != version:
            raise RuntimeError(
                "one of the variables needed for gradient computation has been modified by an inplace operation: "
                f"a {x.type()} {list(x.shape)} is at version {x._version}; expected version {version} instead"
            )
        return x

    with ExitStack() as stack:
        for module in modules:
            if id(module) not in inside:
                stack.callback(module.register_forward_hook(note).remove)
        stack.enter_context(torch.autograd.graph.saved_tensors_hooks(to_bits, from_bits))
        yield
