"""Save the spikes of any module as bits, whichever layer saves them for its backward pass.

Forward hooks record the outputs of the spiking modules. A tensor that an operation saves, and that shares its memory
with such an output, is replaced by bits, once for all operations that save it.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn

from .backend import kernels_run
from .norm_neuron import NormNeuron
from .packing import SavedBits, pack, saving_hooks


@contextmanager
def packed_spikes(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Save, within the block, the outputs of these modules as bits, for any layer that takes them.

    Gradients stay the same to the last bit. Outputs other than 0 and 1, outputs changed in place, and outputs that the
    compiled kernels do not take are saved as they are. A compiled network breaks its graph here.

    Args:
        modules: the spiking modules, such as all neurons of a network, or simply all its modules.

    Example:
        >>> from shortcut_snn.neurons import LIF
        >>> network = nn.Sequential(nn.Linear(64, 64), LIF(), nn.Linear(64, 10))
        >>> with packed_spikes(module for module in network if isinstance(module, LIF)):
        ...     loss = network(torch.rand(4, 8, 64)).sum()
        >>> loss.backward()
    """
    outputs: dict[int, _Output] = {}
    modules = list(modules)
    # A hook on an inner module would keep the layer from running in one pass.
    inner = {id(child) for module in modules if isinstance(module, NormNeuron) for child in module.children()}

    def record(module: nn.Module, args: Any, output: Any) -> None:
        spikes = output[0] if isinstance(output, tuple) else output
        # Bits stand for a whole storage, from its beginning to its end.
        fills_storage = isinstance(spikes, Tensor) and spikes.untyped_storage().nbytes() == spikes.nbytes
        # Inference tensors have no backward pass.
        if fills_storage and kernels_run(spikes) and not spikes.is_inference():
            outputs[spikes.untyped_storage()._cdata] = _Output(spikes)

    def find(x: Tensor) -> SavedBits | None:
        output = outputs.get(x.untyped_storage()._cdata) if x.layout == torch.strided else None
        return None if output is None else output.saved(x)

    with ExitStack() as stack:
        for module in modules:
            if id(module) not in inner:
                stack.callback(module.register_forward_hook(record).remove)
        stack.enter_context(saving_hooks(find))
        yield


class _Output:
    """The output of a module, held weakly, and its bits once an operation has saved it."""

    def __init__(self, spikes: Tensor) -> None:
        self.spikes, self.version, self.elements = ref(spikes), spikes._version, spikes.numel()
        self.bits: Tensor | None = None

    def saved(self, x: Tensor) -> SavedBits | None:
        """Return a tensor in this output's memory as bits; None if it cannot be."""
        spikes = self.spikes()
        if spikes is None or spikes._version != self.version or x.dtype != spikes.dtype:
            return None
        if self.bits is None:
            flat = spikes.detach().as_strided((1, self.elements), (self.elements, 1))
            # Neurons of other libraries may return counts or currents, which the first elements usually show.
            if not all(torch.equal(part * part, part) for part in (flat[:, :1024], flat)):
                self.version = -1
                return None
            self.bits = pack(flat)
        return SavedBits(self.bits, self.elements, x.dtype, (x.shape, x.stride(), int(x.storage_offset())))
