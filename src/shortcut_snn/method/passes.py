"""Passes through any network that leave it as it was."""

import copy
import inspect
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

Reset = Callable[[nn.Module], object]
"""Puts the neurons of a network back into their initial state."""


def example_of(network: nn.Module, example: Any) -> Any:
    """Return the example given or else the network's own.

    Raises:
        ValueError: there is none.

    Example:
        >>> example_of(nn.Linear(2, 2), torch.ones(2))
        tensor([1., 1.])
    """
    if example is not None:
        return example
    offered = getattr(network, "example_input", None)
    if offered is None:
        raise ValueError(
            f"pass example=... (one batch of inputs) to find the branches' widths: "
            f"{type(network).__name__} has no example_input()"
        )
    return offered()


def called(network: nn.Module, run: Callable[..., Any] | None, *args: Any, **kwargs: Any) -> Any:
    """Call a network as ``run`` says, None for plainly."""
    return network(*args, **kwargs) if run is None else run(network, *args, **kwargs)


def call_on(network: nn.Module, run: Callable[..., Any] | None, example: Any) -> Any:
    """Call a network on a batch that may be several inputs: a tuple, or a dictionary of its arguments.

    The network gets a copy, which it may change.

    Example:
        >>> call_on(nn.Bilinear(2, 3, 4), None, (torch.ones(5, 2), torch.ones(5, 3))).shape
        torch.Size([5, 4])
    """
    args, kwargs = inputs_of(network, tree_map_only(Tensor, torch.clone, example))
    return called(network, run, *args, **kwargs)


def signature_of(network: nn.Module) -> inspect.Signature:
    """Return what a network's ``forward`` takes; of one that ``torch.compile`` wraps, its own."""
    return inspect.signature(getattr(network, "_orig_mod", network).forward)


def inputs_of(network: nn.Module, example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return an example as the arguments that a network's ``forward`` takes.

    Example:
        >>> inputs_of(nn.Bilinear(2, 3, 4), {"input1": 1, "input2": 2})
        ((), {'input1': 1, 'input2': 2})
        >>> inputs_of(nn.ReLU(), {"image": 1})
        (({'image': 1},), {})
    """
    try:
        signature = signature_of(network)
        if isinstance(example, tuple):
            signature.bind(*example)
            return example, {}
        if isinstance(example, Mapping) and all(isinstance(key, str) for key in example):
            signature.bind(**example)
            return (), dict(example)
    except (TypeError, ValueError):
        # One argument that is a tuple or a dictionary.
        pass
    return (example,), {}


def states(network: nn.Module) -> dict[int, Any]:
    """Return copies, by id, of the tensors in a network that are results: a neuron's state after a pass.

    Given to ``copy.deepcopy`` as its memo, they take the place of the originals, which it refuses.

    Example:
        >>> neuron = nn.Identity()
        >>> neuron.v = torch.ones(1, requires_grad=True) * 0.5
        >>> list(states(neuron).values())
        [tensor([0.5000])]
    """
    return _results(vars(module) for module in nn.Module.modules(network))


def _results(values: Iterable[Any], depth: int = 4) -> dict[int, Any]:
    copies: dict[int, Any] = {}
    for value in values if depth else ():
        if isinstance(value, Tensor) and not value.is_leaf:
            copies[id(value)] = value.detach().clone()
        elif isinstance(value, dict | list | tuple):
            copies |= _results(value.values() if isinstance(value, dict) else value, depth - 1)
    return copies


def dry_copy(network: nn.Module, reset: Reset | None) -> nn.Module:
    """Return a copy in eval mode with its neurons at rest, for a pass that leaves no trace in the network.

    Example:
        >>> dry_copy(nn.Linear(2, 2), reset=None).training
        False
    """
    twin = copy.deepcopy(network, states(network)).eval()
    if reset is not None:
        reset(twin)
    return twin


@contextmanager
def evaluation(network: nn.Module) -> Iterator[None]:
    """Eval mode without gradients; modes and random numbers, also of a module's own, are put back behind it.

    Example:
        >>> network = nn.Linear(2, 2)
        >>> with evaluation(network):
        ...     network.training, network(torch.ones(2)).requires_grad
        (False, False)
        >>> network.training
        True
    """
    modes = [(module, module.training) for module in nn.Module.modules(network)]
    devices = {p.device.index for p in nn.Module.parameters(network) if p.device.type == "cuda"}
    python, numpy = random.getstate(), sys.modules.get("numpy")
    drawn = numpy.random.get_state() if numpy is not None else None
    own = [value for module, _ in modes for value in vars(module).values()]
    torchs = [(value, value.get_state()) for value in own if isinstance(value, torch.Generator)]
    numpys = [(bits, bits.state) for value in own if (bits := getattr(value, "bit_generator", None)) is not None]
    try:
        network.eval()
        with torch.no_grad(), torch.random.fork_rng(devices=sorted(devices)):
            yield
    finally:
        for module, training in modes:
            module.training = training
        for generator, state in torchs:
            generator.set_state(state)
        for bits, state in numpys:
            bits.state = state
        random.setstate(python)
        if numpy is not None:
            numpy.random.set_state(drawn)
