"""Inference of the reset: how the neurons of a network return to their initial state.

A network leaks if its output for a batch depends on the batch before. It cannot leak if a pass changes no attribute of
its modules, and the resets of known libraries are taken on trust. The candidates for all other state are tried in this
order, and the first one with which the network does not leak is taken:

1. methods of the network or its modules that are named like a reset;
2. the values that its attributes had before its first call.
"""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

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
        ValueError: the network leaks with the caller's reset, or with every candidate.
    """
    if reset is None:
        return Answer(None, "reset=None"), probe
    if not isinstance(reset, str):
        if leaks(probe, reset):
            raise ValueError(
                f"{describe_state(probe.initial, list(changed_attributes(probe)))}, in spite of reset=...: it must "
                "reset all of that"
            )
        return Answer(reset, "your reset=..."), probe
    of_library = library_reset(adapters)
    libraries = " and ".join(adapter.name for adapter in adapters if adapter.reset is not None)
    changed = {probe.initial.get_submodule(name) for name, _ in changed_attributes(probe)}
    of_libraries = all(any(adapter.resets(module) for adapter in adapters) for module in changed)
    if of_libraries or not leaks(probe, of_library):
        return Answer(of_library, f"{libraries}'s own" if libraries else "no state outlives a forward pass"), probe
    for method, reason in reset_methods(probe.initial):
        candidate = _after(of_library, method)
        after = _probe_after(probe, candidate)
        if after is not None and not leaks(after, candidate):
            return Answer(candidate, reason), after
    restored = _restore_initial_values(probe, of_library)
    if restored is not None:
        return restored, probe
    raise OpenQuestion(
        f"{describe_state(probe.initial, list(changed_attributes(probe)))}: pass reset=..., a function that resets the "
        "network, such as lambda net: [m.reset() for m in net.modules() if hasattr(m, 'reset')], or a network that has "
        "not been called yet; or reset=None, to keep the state"
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
        # A plain object may keep something under the identity of a module, which a copy does not have.
        left = (after for _, after in changed_attributes(probe).values() if not isinstance(after, Tensor))
        network = probe.used(itself=any(hasattr(after, "__dict__") for after in left))
        if reset is not None:
            reset(network)
        return probe.differs(probe.observe(network=network))
    except Exception:  # A state of another shape, or a reset that needs arguments.
        return True


def keeps_state(probe: Probe) -> bool:
    """Return whether the attributes that a call leaves depend on the call before, although the output may not."""
    network = probe.used()
    try:
        probe.observe(network=network)
    except Exception:  # A state of another shape.
        return True
    return bool(_differences(probe.base.network, network))


def _after(first: Reset | None, second: Reset) -> Reset:
    return second if first is None else Resets((first, second))


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


# Values before the first call


@dataclass(frozen=True)
class RestoreValues:
    """Set attributes of a network's modules to the values that they had before the first call."""

    values: Mapping[Place, Any]

    def __call__(self, network: nn.Module) -> None:
        """Reset the network."""
        for (name, attribute), value in self.values.items():
            module = network.get_submodule(name)
            present = getattr(module, attribute, None)
            if isinstance(value, str) and value == _ABSENT:
                if hasattr(module, attribute):
                    delattr(module, attribute)
            elif isinstance(value, Tensor):
                setattr(module, attribute, _moved_like(value, present, attribute in module._buffers))
            else:
                setattr(module, attribute, copy.deepcopy(value))


def _moved_like(value: Tensor, present: Any, is_buffer: bool) -> Tensor:
    """Return a copy on the device of the present value, and for a buffer in its dtype."""
    if not isinstance(present, Tensor):
        return value.clone()
    # Under autocast, a pass leaves tensors of lower precision than the network's.
    follows = is_buffer and value.is_floating_point() and not torch.is_autocast_enabled(present.device.type)
    return value.to(present.device, present.dtype if follows else value.dtype, copy=True)


def _restore_initial_values(probe: Probe, of_library: Reset | None) -> Answer[Reset | None] | None:
    """Return a reset to the values before the first call, if that prevents the leak.

    An attribute that no pass reads is a counter or a record, which the user may read after the pass. It is left alone.
    """
    changed = changed_attributes(probe)
    if not all(_is_initial(before) for before, _ in changed.values()):
        return None
    names = dict.fromkeys(attribute for _, attribute in changed)
    read = {name for name in names if len(names) == 1 or _is_read(probe, name, changed)}
    for restored in dict.fromkeys([frozenset(read), frozenset(names)]):
        before = {place: copy.deepcopy(values[0]) for place, values in changed.items() if place[1] in restored}
        reset = _after(of_library, RestoreValues(before))
        if before and not leaks(probe, reset):
            return Answer(reset, f"{_list_places(before)} as before the first call")
    return None


def _is_read(probe: Probe, name: str, changed: Mapping[Place, tuple[Any, Any]]) -> bool:
    """Return whether a pass reads an attribute or appends to it: whether a far-off value changes the pass."""
    network = probe.fresh()
    after_pass = {module: after for (module, attribute), (_, after) in changed.items() if attribute == name}
    try:
        for module, after in after_pass.items():
            far = torch.full_like(after, 1e3) if isinstance(after, Tensor) else copy.deepcopy(after)
            setattr(network.get_submodule(module), name, far)
        done = probe.observe(network=network)
        grown = (
            _size(getattr(network.get_submodule(module), name)) > _size(after_pass[module]) for module in after_pass
        )
        return any(grown) or probe.differs(done)
    except Exception:  # A state of another shape.
        return True


def _size(value: Any) -> int:
    return value.numel() if isinstance(value, Tensor) else len(value) if isinstance(value, list | tuple | dict) else 0


def _is_initial(value: Any) -> bool:
    """Return whether a value may be one from before the first call, not one that a call left."""
    if isinstance(value, Tensor):
        return value.is_leaf and (value.numel() <= 1 or not value.any())
    if isinstance(value, dict):
        return all(map(_is_initial, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_initial, value))
    return isinstance(value, int | float | str | bool | None)


# State in the attributes of modules


def changed_attributes(probe: Probe) -> dict[Place, tuple[Any, Any]]:
    """Return the attributes of a network's modules that a pass changes, with their values before and after."""
    return _differences(probe.initial, probe.base.network)


def _differences(one: nn.Module, other: nn.Module) -> dict[Place, tuple[Any, Any]]:
    """Return the attributes in which the modules of two copies of a network differ, with both values."""
    changed = {}
    others = dict(named_modules(other))
    for name, before in named_modules(one):
        old, new = _attributes(before), _attributes(others.get(name, before))
        for attribute in [*old, *(attribute for attribute in new if attribute not in old)]:
            values = old.get(attribute, _ABSENT), new.get(attribute, _ABSENT)
            if not _equal(*values):
                changed[name, attribute] = values
    return changed


def leftover_state(network: nn.Module) -> list[Place]:
    """Return the attributes of a network's modules that may hold state of an earlier call."""
    return [
        (name, attribute)
        for name, module in named_modules(network)
        for attribute, value in vars(module).items()
        if isinstance(value, Tensor) and value.numel() > 1 and value.any()
    ]


def describe_state(network: nn.Module, places: list[Place]) -> str:
    """Say in which attributes a network keeps its state."""
    where = f", in {_list_places(places)}" if places else ""
    return f"{type(network).__name__} keeps state from one call to the next{where}"


def _list_places(places: Iterable[Place], limit: int = 3) -> str:
    names = [".".join(filter(None, place)) for place in places]
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _attributes(module: nn.Module) -> dict[str, Any]:
    """Return a module's attributes and buffers, without parameters, submodules and hooks."""
    attributes = vars(module)
    values = {k: value for k, value in attributes.items() if not k.startswith(("_forward", "_backward", "_modules"))}
    for kind in ("_parameters", "_buffers", "_non_persistent_buffers_set", "_state_dict_hooks", "training"):
        values.pop(kind, None)
    modules: dict[str, Any] = attributes.get("_modules", {})
    buffers: dict[str, Any] = attributes.get("_buffers", {})
    return modules | values | buffers


def _equal(one: Any, other: Any, depth: int = 4) -> bool:
    if one is other or isinstance(one, nn.Module) or isinstance(other, nn.Module) or not depth:
        return True
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and bool(((one == other) | ((one != one) & (other != other))).all())
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key], depth - 1) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(_equal(a, b, depth - 1) for a, b in zip(one, other, strict=True))
    if isinstance(one, int | float | str | bool | None) or isinstance(other, int | float | str | bool | None | Tensor):
        return type(one) is type(other) and one == other
    # Any other object is copied with the module, so its identity means nothing.
    inside, other_inside = (getattr(value, "__dict__", None) for value in (one, other))
    return type(one) is type(other) and _equal(inside, other_inside, depth - 1)
