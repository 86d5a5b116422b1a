"""Count the operations, spikes and membrane updates of each layer while a network runs.

The rules:

- A layer whose inputs are all spikes does an accumulate (AC) for every spike and every output that the spike reaches.
- A layer with any other input (an image, a current, the counts of a SEW block) does a multiply-accumulate (MAC) for
  every weight and every output position.
- An integer n of an :class:`.ILIF` neuron is n spikes (see :func:`.unrolled_spikes`), also after a mask of spikes.
- A matrix product of two activations, as in attention, does an AC wherever two spikes meet. If only one side is spikes,
  each spike selects a row or a column of the other side, one AC per element.
- Normalisations are folded into the layers before them. Biases, pooling, residual sums and masks are not counted.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from .._utils.module_state import hooked
from ..introspection.neurons import find_neurons
from ..method.taps import first_tensor
from ..neurons import ILIF
from ..neurons.current_neuron import CurrentNeuron

WEIGHT_LAYERS = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear
_MAX_POOLS = (nn.modules.pooling._MaxPoolNd, nn.modules.pooling._AdaptiveMaxPoolNd)
# Names of functions of torch and of methods of its tensors.
_MATRIX_PRODUCTS = frozenset({"matmul", "__matmul__", "mm", "bmm"})
_MASKS = frozenset({"mul", "__mul__"})
_UNCOUNTED_PRODUCTS = frozenset({"einsum", "tensordot", "addmm", "baddbmm", "addbmm", "inner"})
_FUNCTIONS_OF_WEIGHTS = frozenset({"linear", "conv1d", "conv2d", "conv3d"})


@dataclass
class LayerOperations:
    """Operations of one convolution, linear layer or product of two activations, summed over all its inputs."""

    acs: int = 0  # accumulates: weights added for a spike
    macs: int = 0  # multiply-accumulates, padding included
    dense: int = 0  # MACs if no input were spikes, padding included
    synapses: int = 0  # ACs if every input were a spike; padding is left out
    inputs: int = 0  # input elements, zeros included
    spikes: int = 0  # input spikes; an integer n of an ILIF is n of them
    max_spikes: int = 1  # largest number of spikes that one input element can stand for in a time step
    updates: int = 0  # membrane potentials of the neurons after this layer; the first layer has those before it too
    # How often an input had these sizes before the axes of one sample, such as (T, N) or (T * N,).
    leading_sizes: Counter[tuple[int, ...]] = field(default_factory=Counter)
    has_numbers: bool = False  # whether any input was not made of spikes
    has_tokens: bool = False  # whether axes of tokens may lie between those of time and batch and the last one


def _storage(x: Tensor) -> StorageWeakRef:
    return StorageWeakRef(x.untyped_storage())  # type: ignore[no-untyped-call]


def _size_and_sum(x: Tensor) -> tuple[int, float]:
    return x.numel(), float(x.sum(dtype=torch.float64))


def _is_spikes(x: Tensor, max_spikes: int) -> bool:
    return max_spikes > 1 or bool(((x == 0) | (x == 1)).all())


def _count_inputs(layer: LayerOperations, x: Tensor, is_spikes: bool) -> int:
    """Add the elements and spikes of an input to a layer's, and return the number of spikes."""
    spikes = int(x.sum(dtype=torch.float64)) if is_spikes else 0
    layer.inputs += x.numel()
    layer.spikes += spikes
    return spikes


class _Operations(TorchFunctionMode):
    """Operations of a network, summed over all inputs: hooks count layers and neurons, the mode counts products."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.layers: defaultdict[str, LayerOperations] = defaultdict(LayerOperations)
        # Parameters that are operands of counted products.
        self.weights: set[str] = set()
        # Products that are not counted, such as those of torch.einsum, and the modules that compute them. The keys are
        # their parameters, or the values themselves where there are none.
        self.uncounted: dict[str, str] = {}
        self.modules = dict(nn.Module.named_modules(network))
        self.weighted = {name: module for name, module in self.modules.items() if isinstance(module, WEIGHT_LAYERS)}
        self.parameters = {
            _storage(parameter): f"{name}.{key}".lstrip(".")
            for name, module in self.modules.items()
            for key, parameter in module._parameters.items()
            if parameter is not None
        }
        self.last_layer = next(iter(self.weighted), "")
        self.layer_of_neuron: dict[str, str] = {}
        # The spikes that an integer may stand for. By storage, so that a view of an ILIF's output counts as well. The
        # weak reference keeps the address from being reused while it does not keep the memory.
        self.max_spikes: dict[StorageWeakRef, int] = {}
        # By number of elements and spikes, so that a copy of it counts too, as that of a flatten.
        self.copies: dict[tuple[int, float], int] = {}
        # A stack of the modules that are running, outermost first: name, and products computed in this call.
        self.running: list[tuple[str, int]] = []

    @torch.no_grad()
    def after_layer(self, name: str, module: Any, args: Any, output: Any) -> None:
        self.last_layer = name
        layer, weight, x = self.layers[name], module.weight, args[0].detach()
        max_spikes = self.find_max_spikes(x)
        is_spikes = _is_spikes(x, max_spikes)
        spikes = _count_inputs(layer, x, is_spikes)
        if isinstance(module, nn.Linear):
            leading = tuple(x.shape[:-1])
            acs = spikes * module.out_features
            dense = synapses = prod(leading) * weight.numel()
            layer.has_tokens = True
        else:
            leading = tuple(x.shape[: x.dim() - len(module.kernel_size) - 1])
            x = x.reshape(-1, *x.shape[len(leading) :]).float()
            # A kernel of ones sums the spikes that reach an output. The sum is the same for all outputs of a group.
            ones = weight.new_ones(module.groups, *weight.shape[1:], dtype=torch.float32)
            reached = module._conv_forward(x, ones, None)
            reached_by_all = module._conv_forward(torch.ones_like(x[:1]), ones, None)
            outputs = module.out_channels // module.groups
            acs = int(reached.double().sum()) * outputs if is_spikes else 0
            dense = prod(leading) * weight.numel() * prod(reached.shape[2:])
            synapses = prod(leading) * int(reached_by_all.double().sum()) * outputs
        layer.leading_sizes[leading] += 1
        layer.dense += dense
        layer.synapses += synapses
        layer.acs += acs
        layer.macs += 0 if is_spikes else dense
        layer.max_spikes = max(layer.max_spikes, max_spikes)
        layer.has_numbers |= not is_spikes

    def find_max_spikes(self, x: Tensor) -> int:
        """Return the largest integer that a neuron may have put into an input, 1 if no I-LIF made it."""
        found = self.max_spikes.get(_storage(x))
        return self.copies.get(_size_and_sum(x), 1) if found is None and self.copies else found or 1

    def set_max_spikes(self, spikes: Tensor, max_spikes: int) -> None:
        """Keep the largest integer that a tensor may hold."""
        self.max_spikes[_storage(spikes)] = self.copies[_size_and_sum(spikes)] = max_spikes

    def after_neuron(self, name: str, module: nn.Module, args: Any, output: Any) -> None:
        # The first call decides: in a loop over time, the layer before a later call belongs to the previous step.
        layer_name = self.layer_of_neuron.setdefault(name, self.last_layer)
        spikes = first_tensor(output)
        self.layers[layer_name].updates += spikes.numel()
        neuron = module.neuron if isinstance(module, CurrentNeuron) else module
        if isinstance(neuron, ILIF):
            self.set_max_spikes(spikes, neuron.max_spikes)

    def after_pool(self, name: str, module: nn.Module, args: Any, output: Any) -> None:
        # The maximum of integers is one of them.
        if _storage(args[0]) in self.max_spikes:
            self.max_spikes[_storage(first_tensor(output))] = self.max_spikes[_storage(args[0])]

    def enter(self, name: str, module: nn.Module, args: Any) -> None:
        self.running.append((name, 0))

    def leave(self, name: str, module: nn.Module, args: Any, output: Any) -> None:
        self.running.pop()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if not self.running:
            return out
        operands = [*args, *(kwargs[name] for name in ("input", "other", "mat2", "weight") if name in kwargs)]
        name = getattr(func, "__name__", "")
        if name in _MATRIX_PRODUCTS:
            self._count_product(operands[0], operands[1], out)
        elif name in _MASKS:
            self._follow_mask(operands[0], operands[1], out)
        elif func is F.scaled_dot_product_attention:
            self._count_attention(*args, **kwargs)
        elif name in _UNCOUNTED_PRODUCTS:
            text = self._describe(func)
            self.uncounted |= dict.fromkeys(self._parameters_among(operands[1:]) or [text], text)
        elif name in _FUNCTIONS_OF_WEIGHTS and self.running[-1][0] not in self.weighted:
            # The bias comes after the weight.
            self.uncounted |= dict.fromkeys(self._parameters_among(operands[1:2]), self._describe(func))
        return out

    def _describe(self, func: Any) -> str:
        return f"{func.__name__} in {self.running[-1][0] or 'the network'}"

    def _parameters_among(self, operands: Sequence[Any]) -> list[str]:
        storages = [_storage(x) for x in operands if isinstance(x, Tensor)]
        return [self.parameters[storage] for storage in storages if storage in self.parameters]

    @torch.no_grad()
    def _follow_mask(self, x: Any, y: Any, out: Tensor) -> None:
        """Keep that integers remain, if integers of a neuron are multiplied by spikes."""
        if not (self.copies and isinstance(x, Tensor) and isinstance(y, Tensor)):
            return
        most_in_x, most_in_y = map(self.find_max_spikes, (x, y))
        if most_in_x * most_in_y > 1 and _is_spikes(x, most_in_x) and _is_spikes(y, most_in_y):
            self.set_max_spikes(out, most_in_x * most_in_y)

    @torch.no_grad()
    def _count_attention(self, query: Tensor, key: Tensor, value: Tensor, *_: Any, **options: Any) -> None:
        """Count both products of an attention, masked entries included."""
        if options.get("enable_gqa"):
            key, value = (x.repeat_interleave(query.shape[-3] // x.shape[-3], -3) for x in (key, value))
        transposed = key.transpose(-2, -1)
        scores = query @ transposed
        weights = scores.softmax(-1)
        self._count_product(query, transposed, scores)
        self._count_product(weights, value, weights @ value)

    @torch.no_grad()
    def _count_product(self, x: Tensor, y: Tensor, out: Tensor) -> None:
        if min(x.dim(), y.dim()) < 2:
            return
        name, number = self.running.pop()
        self.running.append((name, number + 1))
        layer = self.layers[f"{name} product {number + 1}".strip()]
        dense = out.numel() * x.shape[-1]
        most_in_x, most_in_y = map(self.find_max_spikes, (x, y))
        spikes_in_x, spikes_in_y = _is_spikes(x, most_in_x), _is_spikes(y, most_in_y)
        for operand, is_spikes in ((x, spikes_in_x), (y, spikes_in_y)):
            # Numbers from which spikes select are read as weights are, so they are not inputs.
            if is_spikes or not (spikes_in_x or spikes_in_y):
                _count_inputs(layer, operand, is_spikes)
            if name_of_weights := self.parameters.get(_storage(operand)):
                self.weights.add(name_of_weights)
        if spikes_in_x and spikes_in_y:
            layer.acs += int(out.sum(dtype=torch.float64))
        elif spikes_in_x or spikes_in_y:
            # A spike of x selects a row of y; a spike of y selects a column of x.
            spikes, reached = (x, out.shape[-1]) if spikes_in_x else (y, out.shape[-2])
            broadcast = dense // (spikes.numel() * reached)
            layer.acs += int(spikes.sum(dtype=torch.float64)) * reached * broadcast
        else:
            layer.macs += dense
        layer.max_spikes = max(layer.max_spikes, most_in_x, most_in_y)
        layer.has_tokens = True
        layer.leading_sizes[tuple(out.shape[:-1])] += 1
        layer.dense += dense
        layer.synapses += dense


@contextmanager
def count_operations(network: nn.Module) -> Iterator[_Operations]:
    """Count the operations of every pass through a network inside the block.

    Products of two activations are counted where ``torch.matmul``, ``mm``, ``bmm`` or ``scaled_dot_product_attention``
    computes them. They are named after the calling module and their position in its call, as in
    ``"attention product 1"``.
    """
    operations = _Operations(network)
    pools = {name: module for name, module in operations.modules.items() if isinstance(module, _MAX_POOLS)}
    with (
        hooked(operations.modules, operations.leave, operations.enter),
        hooked(pools, operations.after_pool),
        hooked(operations.weighted, operations.after_layer),
        hooked(find_neurons(network), operations.after_neuron),
        operations,
    ):
        yield operations
