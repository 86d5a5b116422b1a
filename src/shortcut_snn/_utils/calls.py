"""Calling any network on an example, without leaving a trace in it."""

import copy
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map, tree_map_only

from .random_state import preserve_random_state

Reset = Callable[[nn.Module], object]
"""Returns the neurons of a network to their initial state."""


def check_is_module(network: Any) -> None:
    """Raise ``TypeError`` if a network is not a module. What ``load`` returns has one as its ``network``."""
    if not isinstance(network, nn.Module):
        remedy = ": pass its .network" if isinstance(getattr(network, "network", None), nn.Module) else ""
        raise TypeError(f"the network must be a torch.nn.Module, got {type(network).__name__}{remedy}")


def uncompiled(network: nn.Module) -> Any:
    """Return the network that a compiled one was made from. Hooks of a compiled network would be compiled with it."""
    return getattr(network, "_orig_mod", network)


def eager() -> AbstractContextManager[None]:
    """Return a context in which compiled modules run as plain Python, and so call hooks that came later."""
    # Without _dynamo nothing is compiled, and importing it takes seconds.
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


def example_of(network: nn.Module, example: Any) -> Any:
    """Return the example, or the network's own ``example_input()`` if it is None."""
    check_is_module(network)
    if example is not None:
        return example
    own_example = getattr(network, "example_input", None)
    if own_example is None:
        raise ValueError(
            f"pass example=... (one batch of inputs): {type(network).__name__} has no example_input() to run instead"
        )
    return own_example()


def primary(example: Any) -> Tensor:
    """Return the first tensor of an example that has axes."""
    for tensor in tensors_in(example):
        if tensor.dim():
            return tensor
    raise ValueError(
        f"the example, a {type(example).__name__}, has no tensor with a batch axis: pass one batch of the network's "
        "inputs as tensors"
    )


def map_tensors(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    """Return a copy of a value with a function applied to the tensors in its containers and dataclasses."""

    def mapped(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return function(leaf)
        if is_dataclass(leaf) and not isinstance(leaf, type):
            values = {field.name: getattr(leaf, field.name) for field in fields(leaf) if field.init}
            return replace(leaf, **{name: map_tensors(function, value) for name, value in values.items()})
        return leaf

    return tree_map(mapped, value)


def tensors_in(value: Any) -> list[Tensor]:
    """Return the tensors in containers and dataclasses."""
    tensors: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        tensors.append(tensor)
        return tensor

    map_tensors(note, value)
    return tensors


def like(example: Any, parameter: Tensor) -> Any:
    """Return an example on a parameter's device, with floating-point tensors in the parameter's dtype."""
    return map_tensors(lambda x: x.to(parameter if x.is_floating_point() else parameter.device), example)


def call_on(network: nn.Module, run: Callable[..., Any] | None, example: Any) -> Any:
    """Call a network on an example of one or several inputs (a tuple, or a dictionary of its arguments).

    The network gets a copy of the example: it may change its input in place, or draw from a generator in it.
    """
    example = map_tensors(torch.clone, example)
    example = tree_map_only(torch.Generator, copy.deepcopy, example)
    args, kwargs = inputs_of(network, example)
    return network(*args, **kwargs) if run is None else run(network, *args, **kwargs)


def signature_of(network: nn.Module) -> inspect.Signature:
    """Return the signature of a network's ``forward``, also through ``torch.compile``."""
    return inspect.signature(uncompiled(network).forward)


def call_by_name(network: nn.Module, arguments: Mapping[str, Any]) -> Any:
    """Call a network on arguments of its ``forward``, by position where possible.

    A class may have a ``__call__(self, *args)`` of its own.
    """
    bound = signature_of(network).bind_partial()
    bound.arguments.update(arguments)
    return network(*bound.args, **bound.kwargs)


def inputs_of(network: nn.Module, example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return an example as the positional and keyword arguments of a network's ``forward``."""
    try:
        signature = signature_of(network)
        if isinstance(example, tuple):
            signature.bind(*example)
            return example, {}
        if isinstance(example, Mapping) and all(isinstance(key, str) for key in example):
            signature.bind(**example)
            return (), dict(example)
    except (TypeError, ValueError):
        # A network of one argument, which is this tuple or dictionary.
        pass
    return (example,), {}


def detached_states(network: nn.Module) -> dict[int, Any]:
    """Return detached copies, by id, of the tensors with a graph in a network: neuron state after a forward pass.

    Use it as the memo of ``copy.deepcopy``, which refuses to copy tensors with a graph.
    """
    return _detached(vars(module) for module in nn.Module.modules(network))


def _detached(values: Iterable[Any], depth: int = 4) -> dict[int, Any]:
    copies: dict[int, Any] = {}
    for value in values if depth else ():
        if isinstance(value, Tensor) and not value.is_leaf:
            copies[id(value)] = value.detach().clone()
        elif isinstance(value, dict | list | tuple):
            copies |= _detached(value.values() if isinstance(value, dict) else value, depth - 1)
    return copies


def copy_network(network: nn.Module) -> nn.Module:
    """Return a deep copy of a network, also after a forward pass that left neuron state with a graph."""
    return copy.deepcopy(network, detached_states(network))


def dry_copy(network: nn.Module, reset: Reset | None) -> nn.Module:
    """Return a copy in eval mode with its neurons reset, for a forward pass that leaves no trace in the network."""
    twin = copy_network(network).eval()
    if reset is not None:
        reset(twin)
    return twin


@contextmanager
def evaluation(network: nn.Module) -> Iterator[None]:
    """Run the block in eval mode without gradients, then restore every module's mode and all random states.

    Random generators that are attributes of the network's modules are restored too.
    """
    modes = [(module, module.training) for module in nn.Module.modules(network)]
    attributes = [value for module, _ in modes for value in vars(module).values()]
    torch_generators = [(value, value.get_state()) for value in attributes if isinstance(value, torch.Generator)]
    numpy_generators = [
        (bits, bits.state) for value in attributes if (bits := getattr(value, "bit_generator", None)) is not None
    ]
    try:
        network.eval()
        with torch.no_grad(), preserve_random_state():
            yield
    finally:
        for module, training in modes:
            module.training = training
        for generator, state in torch_generators:
            generator.set_state(state)
        for bits, state in numpy_generators:
            bits.state = state
