"""Counting what a network does: additions, multiplications, spikes and membrane potentials of each layer."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ..inspection import hooked
from ..introspection.neurons import neurons
from ..method.taps import first_tensor
from ..neurons import ILIF, CurrentNeuron

COUNTED = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear
_POOLS = (
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d
)  # fmt: skip


@dataclass
class LayerOperations:
    """What one convolution, linear layer or product of two activations does, summed over all inputs."""

    additions: int = 0
    """Weights added for a spike."""
    multiplications: int = 0
    """Weights multiplied and accumulated."""
    dense: int = 0
    """Multiplications if every input were a number, padding included."""
    synapses: int = 0
    """The same, padding left out: additions if every input were a spike."""
    inputs: int = 0
    """Spikes or numbers that it was given, zeros included."""
    spikes: int = 0
    """Of these, spikes; a number n of an :class:`.ILIF` is n of them."""
    most: int = 1
    """Spikes that an input can be in a time step."""
    updates: int = 0
    """Membrane potentials computed by the neurons behind it; the first layer has also those before it."""
    lead: Counter[tuple[int, ...]] = field(default_factory=Counter)
    """Sizes of its inputs' axes before those of one sample, as time and batch are, and how often each came."""
    numbers: bool = False
    """Whether it was given anything else than spikes."""
    tokens: bool = False
    """Whether axes of tokens may stand between those of time and batch and the last."""


@dataclass
class Operations:
    """What a network does, summed over all inputs."""

    layers: dict[str, LayerOperations] = field(default_factory=dict)
    uncounted: set[str] = field(default_factory=set)
    """Functions that multiply and were not counted, and the modules that called them."""

    @property
    def updates(self) -> int:
        """Membrane potentials computed: neurons times time steps."""
        return sum(layer.updates for layer in self.layers.values())


@contextmanager
def count_operations(network: nn.Module) -> Iterator[Operations]:
    """Count what a network does in the passes of a block.

    The products of two activations are found by the functions that compute them, ``torch.matmul``, ``torch.bmm`` and
    ``scaled_dot_product_attention``, and named after the module that calls these, and their order in a call of it.
    """
    found = Operations()
    products = _Products(found)
    layers = {name: module for name, module in nn.Module.named_modules(network) if isinstance(module, COUNTED)}
    last = next(iter(layers), "")
    before: dict[str, str] = {}
    # By what they are views of. A weak reference keeps the address from being given away, but not the numbers.
    counts: dict[StorageWeakRef, int] = {}

    def storage(x: Tensor) -> StorageWeakRef:
        return StorageWeakRef(x.untyped_storage())  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def layer(name: str, module: Any, args: Any, output: Any) -> None:
        nonlocal last
        last = name
        x = args[0].detach()
        _add(found.layers.setdefault(name, LayerOperations()), module, x, counts.get(storage(x), 1))

    def update(name: str, module: nn.Module, args: Any, output: Any) -> None:
        # Found at its first call: in a loop over time what comes before it is then the step before.
        behind = found.layers.setdefault(before.setdefault(name, last), LayerOperations())
        fired = first_tensor(output)
        behind.updates += fired.numel()
        neuron = module.neuron if isinstance(module, CurrentNeuron) else module
        if isinstance(neuron, ILIF):
            counts[storage(fired)] = neuron.most

    def pool(name: str, module: nn.Module, args: Any, output: Any) -> None:
        # The largest of counts is a count.
        if storage(args[0]) in counts:
            counts[storage(first_tensor(output))] = counts[storage(args[0])]

    calls = hooked(dict(nn.Module.named_modules(network)), products.leave, products.enter)
    pools = {name: module for name, module in nn.Module.named_modules(network) if isinstance(module, _POOLS)}
    with calls, hooked(pools, pool), hooked(layers, layer), hooked(neurons(network), update), products:
        yield found


def _spikes(x: Tensor) -> bool:
    return bool(((x == 0) | (x == 1)).all())


def _given(layer: LayerOperations, x: Tensor, spikes: bool) -> int:
    fired = int(x.sum(dtype=torch.float64)) if spikes else 0
    layer.inputs += x.numel()
    layer.spikes += fired
    return fired


def _add(layer: LayerOperations, module: nn.Conv2d | nn.Linear, x: Tensor, most: int) -> None:
    spikes = most > 1 or _spikes(x)
    weight = module.weight
    fired = _given(layer, x, spikes)
    layer.most = max(layer.most, most)
    if isinstance(module, nn.Linear):
        layer.tokens = True
        lead = tuple(x.shape[:-1])
        used = fired * module.out_features
        dense = synapses = prod(lead) * weight.numel()
    else:
        lead = tuple(x.shape[: x.dim() - len(module.kernel_size) - 1])
        x = x.reshape(-1, *x.shape[len(lead) :]).float()
        # One kernel of ones a group: what reaches an output is the same for all outputs of a group.
        ones = weight.new_ones(module.groups, *weight.shape[1:], dtype=torch.float32)
        reached, all_reached = (module._conv_forward(given, ones, None) for given in (x, torch.ones_like(x[:1])))
        outputs = module.out_channels // module.groups
        used = int(reached.double().sum()) * outputs if spikes else 0
        dense = prod(lead) * weight.numel() * prod(reached.shape[2:])
        synapses = prod(lead) * int(all_reached.double().sum()) * outputs
    layer.lead[lead] += 1
    layer.dense += dense
    layer.synapses += synapses
    layer.additions += used
    layer.multiplications += 0 if spikes else dense
    layer.numbers |= not spikes


class _Products(TorchFunctionMode):
    """Counts the matrix products of two activations in the modules that it is told of."""

    FUNCTIONS = frozenset({torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm, Tensor.bmm})
    OTHERS = frozenset({torch.einsum, torch.tensordot, torch.baddbmm, Tensor.baddbmm, torch.addbmm, Tensor.addbmm})

    def __init__(self, found: Operations) -> None:
        super().__init__()
        self.layers, self.uncounted = found.layers, found.uncounted
        # Of each module that runs, the outer ones first, its name and how many products it has computed in this call.
        self.running: list[tuple[str, int]] = []

    def enter(self, name: str, module: nn.Module, args: Any) -> None:
        self.running.append((name, 0))

    def leave(self, name: str, module: nn.Module, args: Any, output: Any) -> None:
        self.running.pop()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if not self.running:
            return out
        if func in self.FUNCTIONS:
            given = [*args, *(kwargs[name] for name in ("input", "other", "mat2") if name in kwargs)]
            self._product(given[0], given[1], out)
        elif func is F.scaled_dot_product_attention:
            self._attention(*args, **kwargs)
        elif func in self.OTHERS:
            self.uncounted.add(f"{func.__name__} in {self.running[-1][0] or 'the network'}")
        return out

    @torch.no_grad()
    def _product(self, x: Tensor, y: Tensor, out: Tensor) -> None:
        if min(x.dim(), y.dim()) < 2:
            return
        name, before = self.running.pop()
        self.running.append((name, before + 1))
        self._count(self.layers.setdefault(f"{name} product {before + 1}".strip(), LayerOperations()), x, y, out)

    @torch.no_grad()
    def _attention(self, query: Tensor, key: Tensor, value: Tensor, *_: Any, **options: Any) -> None:
        """Both products of it, whatever its mask leaves out."""
        if options.get("enable_gqa"):
            key, value = (x.repeat_interleave(query.shape[-3] // x.shape[-3], -3) for x in (key, value))
        across = key.transpose(-2, -1)
        scores = query @ across
        shares = scores.softmax(-1)
        out = shares @ value
        self._product(query, across, scores)
        self._product(shares, value, out)

    def _count(self, layer: LayerOperations, x: Tensor, y: Tensor, out: Tensor) -> None:
        dense = out.numel() * x.shape[-1]
        first, second = _spikes(x), _spikes(y)
        for given, fires in ((x, first), (y, second)):
            # Numbers that spikes choose from are read as weights are.
            if fires or not (first or second):
                _given(layer, given, fires)
        if first and second:
            layer.additions += int(out.double().sum())
        elif first or second:
            # What a spike reaches: a row of the second matrix, or a column of the first.
            spikes, reached = (x, out.shape[-1]) if first else (y, out.shape[-2])
            layer.additions += int(spikes.count_nonzero()) * reached * (dense // (spikes.numel() * reached))
        else:
            layer.multiplications += dense
        layer.tokens = True
        layer.lead[tuple(out.shape[:-1])] += 1
        layer.dense += dense
        layer.synapses += dense
