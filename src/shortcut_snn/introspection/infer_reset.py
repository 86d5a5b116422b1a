"""Inference of the reset: how the neurons of a network return to their initial state.

A network leaks if its output for a batch depends on the batch before. The resets of known libraries are taken on trust.
For other state, methods that are named like a reset are tried, and the first one with which the network does not leak
is taken. Otherwise the caller is asked.
"""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from .._utils.calls import Reset
from .adapters import Adapter, Resets, library_reset, modules_with
from .answer import Answer, OpenQuestion
from .probe import Probe
from .recorder import named_modules

Place = tuple[str, str]
"""The name of a module, and of one of its attributes."""
RESET_NAMES = (
    "reset_net", "reset_state", "reset_states", "reset_mem", "reset_membrane", "reset_hidden", "reset_hidden_state",
    "reset_state_variables", "reset_neurons", "reset_all", "n_reset", "reset", "init_state", "init_states", "init_mem",
    "init_membrane", "init_hidden", "init_hidden_state", "clear_state", "clear", "zero_state",
)  # fmt: skip
"""Names of methods by which libraries and users reset a neuron or a network."""
_ABSENT = "no such attribute"


def infer_reset(probe: Probe, adapters: list[Adapter], reset: Reset | str | None) -> tuple[Answer[Reset | None], Probe]:
    """Infer the reset of a network.

    Args:
        probe: of the network, after the reset of its libraries.
        adapters: of the libraries whose neurons it has.
        reset: the caller's reset; None for none, ``"auto"`` to infer it.

    Returns:
        The reset, and a probe that begins from the state that it leaves.

    Raises:
        OpenQuestion: no reset is known with which the network does not leak.
        ValueError: the network leaks with the caller's reset.
    """
    if reset is None:
        return Answer(None, "reset=None"), probe
    if not isinstance(reset, str):
        if leaks(probe, reset):
            raise ValueError(f"{describe_state(probe)}, in spite of reset=...: it must reset all of that")
        return Answer(reset, "your reset=..."), probe
    known = library_reset(adapters)
    libraries = " and ".join(adapter.name for adapter in adapters if adapter.reset is not None)
    changed = {probe.initial.get_submodule(name) for name, _ in changed_attributes(probe)}
    of_libraries = bool(changed) and all(any(adapter.resets(module) for adapter in adapters) for module in changed)
    if of_libraries or not leaks(probe, known):
        return Answer(known, f"{libraries}'s own" if libraries else "no state outlives a forward pass"), probe
    for method, reason in reset_methods(probe.initial):
        candidate = method if known is None else Resets((known, method))
        after = _probe_after(probe, candidate)
        if after is not None and not leaks(after, candidate):
            return Answer(candidate, reason), after
    raise OpenQuestion(
        f"{describe_state(probe)}: pass reset=..., a function of the network that sets it to its initial state, or "
        "reset=None, to keep the state; if the network was called before, pass a new one"
    )


def check_layers_exist(probe: Probe) -> None:
    """Check that a pass makes no layers, which no hook and no optimizer would know."""
    known, modules = dict(named_modules(probe.initial)), named_modules(probe.base.network)
    made = [name for name, module in modules if name not in known and list(nn.Module.parameters(module))]
    if made:
        raise ValueError(
            f"{type(probe.initial).__name__} makes layers in its first call, such as {made[-1]!r}: call the network "
            "once on a batch before you attach it"
        )


def leaks(probe: Probe, reset: Reset | None) -> bool:
    """Return whether a network's output depends on the batch before, with a reset between the two."""
    try:
        network = probe.used()
        if reset is not None:
            reset(network)
        return probe.differs(probe.observe(network=network))
    except Exception:  # A state of another shape, or a reset that needs arguments.
        return True


# Methods named like a reset


@dataclass(frozen=True)
class CallMethod:
    """Call a method without arguments, of the network or of every module inside it that has the method."""

    method: str
    of_network: bool

    def __call__(self, network: nn.Module) -> None:
        """Reset the network."""
        detached = [entry for module in nn.Module.modules(network) for entry in _detach_state(module)]
        for module in [network] if self.of_network else modules_with(network, self.method):
            if self.of_network or module is not network:
                getattr(module, self.method)()
        for values, name, original, copied in detached:
            # The method left this tensor alone, so it is not state. It may be a firing rate that enters the loss.
            # Writes through .data do not count as versions, so the values are compared too.
            unwritten = values.get(name) is copied and (copied.is_inference() or not copied._version)
            if unwritten and torch.equal(copied, original):
                values[name] = original


def _detach_state(module: nn.Module) -> list[tuple[dict[str, Any], str, Tensor, Tensor]]:
    """Detach a module's tensors from their graph, in which a method that zeroes them in place would leave them."""
    detached = []
    spaces: tuple[dict[str, Any], ...] = (vars(module), module._buffers)
    for values in spaces:
        for name, value in list(values.items()):
            if isinstance(value, Tensor) and not value.is_leaf:
                values[name] = value.detach().clone()
                detached.append((values, name, value, values[name]))
    return detached


def reset_methods(network: nn.Module) -> list[tuple[CallMethod, str]]:
    """Return the methods named like a reset, with a description of each."""
    methods = []
    for name in RESET_NAMES:
        if callable(getattr(network, name, None)):
            methods.append((CallMethod(name, of_network=True), f"the network's {name}()"))
        classes = {type(module).__name__ for module in modules_with(network, name) if module is not network}
        if classes:
            methods.append((CallMethod(name, of_network=False), f"{name}() of {', '.join(sorted(classes)[:3])}"))
    return methods


def _probe_after(probe: Probe, reset: Reset) -> Probe | None:
    """Return a probe after a method that is only known by its name; None if it fails or changes weights."""
    network = copy.deepcopy(probe.initial)
    try:
        reset(network)
    except Exception:  # It may need arguments.
        return None
    before, after = probe.initial.state_dict(), network.state_dict()
    tensors = {name: tensor for name, tensor in before.items() if isinstance(tensor, Tensor)}
    if not tensors.keys() <= after.keys() or not all(torch.equal(one, after[name]) for name, one in tensors.items()):
        return None
    return probe.with_reset(reset) if _differences(probe.initial, network) else probe


# State in the attributes of modules


def changed_attributes(probe: Probe) -> list[Place]:
    """Return the attributes of a network's modules that a pass changes."""
    return _differences(probe.initial, probe.base.network)


def _differences(one: nn.Module, other: nn.Module) -> list[Place]:
    """Return the attributes in which the modules of two copies of a network differ."""
    changed, others = [], dict(named_modules(other))
    for name, before in named_modules(one):
        old, new = _attributes(before), _attributes(others.get(name, before))
        names = dict.fromkeys([*old, *new])
        changed += [(name, key) for key in names if not _equal(old.get(key, _ABSENT), new.get(key, _ABSENT))]
    return changed


def describe_state(probe: Probe) -> str:
    """Say in which attributes a network keeps its state."""
    names = [".".join(filter(None, place)) for place in changed_attributes(probe)]
    listed = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    where = f", in {listed}" if names else ""
    return f"{type(probe.initial).__name__} keeps state from one call to the next{where}"


def _attributes(module: nn.Module) -> dict[str, Any]:
    """Return a module's attributes and buffers, without parameters, submodules and hooks."""
    kinds = ("_parameters", "_buffers", "_non_persistent_buffers_set", "_state_dict_hooks", "training")
    attributes = {
        name: value
        for name, value in vars(module).items()
        if name not in kinds and not name.startswith(("_forward", "_backward", "_modules"))
    }
    buffers: dict[str, Any] = vars(module).get("_buffers", {})
    return attributes | buffers


def _equal(one: Any, other: Any) -> bool:
    """Return whether two attributes are equal: the tensors, numbers and words in their containers."""
    some, others = tree_leaves(one), tree_leaves(other)
    return len(some) == len(others) and all(map(_equal_leaves, some, others))


def _equal_leaves(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        one, other = (each if each.layout is torch.strided else each.to_dense() for each in (one, other))
        return one.shape == other.shape and bool(((one == other) | ((one != one) & (other != other))).all())
    plain = int | float | str | None
    if isinstance(one, plain) or isinstance(other, plain):
        return type(one) is type(other) and one == other
    # Another object is copied with the module, so its identity means nothing.
    return type(one) is type(other)
