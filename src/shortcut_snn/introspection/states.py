"""Networks that keep something from one call to the next: finding that out, and how to put them to rest."""

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..method import Reset
from .libraries import Library, resettable
from .probing import Prober, named

NAMES = (
    "reset_net",
    "reset_state",
    "reset_states",
    "reset_mem",
    "reset_membrane",
    "reset_hidden",
    "reset_hidden_state",
    "reset_state_variables",
    "reset_neurons",
    "reset_all",
    "n_reset",
    "reset",
    "init_state",
    "init_states",
    "init_mem",
    "init_membrane",
    "init_hidden",
    "init_hidden_state",
    "clear_state",
    "clear",
    "zero_state",
)
"""What libraries and people call a method that puts a neuron or a network to rest."""
_ABSENT = "no such attribute"


@dataclass(frozen=True)
class CallReset:
    """Calls a method without arguments of the network, or else of every module that has it.

    Args:
        method: its name.
        whole: whether it is the network's own.

    Example:
        >>> CallReset("reset", whole=False)(nn.Sequential(nn.ReLU()))
    """

    method: str
    whole: bool

    def __call__(self, network: nn.Module) -> None:
        """Put it to rest."""
        held = [each for module in nn.Module.modules(network) for each in _let_go(module)]
        for module in [network] if self.whole else resettable(network, self.method):
            if self.whole or module is not network:
                getattr(module, self.method)()
        for values, name, own, without in held:
            # What the method leaves alone is no state: a rate that a loss is made of, a weight made before the pass.
            # Zeros may also be written to .data, which raises no version.
            untouched = values.get(name) is without and (without.is_inference() or not without._version)
            if untouched and torch.equal(without, own):
                values[name] = own


def _let_go(module: nn.Module) -> Iterator[tuple[dict[str, Any], str, Tensor, Tensor]]:
    """Take its state out of the graph, which a method that sets it to 0 in place would leave it in."""
    spaces: tuple[dict[str, Any], ...] = (vars(module), module._buffers)
    for values in spaces:
        for name, value in list(values.items()):
            if isinstance(value, Tensor) and not value.is_leaf:
                values[name] = value.detach().clone()
                yield values, name, value, values[name]


@dataclass(frozen=True)
class Restore:
    """Gives attributes of a network's modules the values that they had before its first call.

    Args:
        values: by the module's name and the attribute's.

    Example:
        >>> network = nn.ReLU()
        >>> network.v = torch.ones(2)
        >>> Restore({("", "v"): 0.0})(network)
        >>> network.v
        0.0
    """

    values: Mapping[tuple[str, str], Any]

    def __call__(self, network: nn.Module) -> None:
        """Put it to rest."""
        for (name, attribute), value in self.values.items():
            module = network.get_submodule(name)
            now = getattr(module, attribute, None)
            if isinstance(value, str) and value == _ABSENT:
                if hasattr(module, attribute):
                    delattr(module, attribute)
            elif isinstance(value, Tensor):
                setattr(module, attribute, _placed(value, now, attribute in module._buffers))
            else:
                setattr(module, attribute, copy.deepcopy(value))


def _placed(value: Tensor, now: Any, buffer: bool) -> Tensor:
    """Return a copy where a network is by now, and of a buffer in the precision that the network was brought to."""
    if not isinstance(now, Tensor):
        return value.clone()
    # What a pass under autocast leaves is of a precision of its own.
    follows = buffer and value.is_floating_point() and not torch.is_autocast_enabled(now.device.type)
    return value.to(now.device, now.dtype if follows else value.dtype, copy=True)


@dataclass(frozen=True)
class Both:
    """One reset after another.

    Args:
        resets: in this order.

    Example:
        >>> Both((CallReset("reset", whole=False),))(nn.ReLU())
    """

    resets: tuple[Reset, ...]

    def __call__(self, network: nn.Module) -> None:
        """Put it to rest."""
        for reset in self.resets:
            reset(network)


def leaks(prober: Prober, reset: Reset | None) -> bool:
    """Whether what a network gives depends on a batch that it was given before, in spite of a reset between.

    Example:
        >>> leaks(Prober(nn.Linear(2, 2), torch.rand(3, 2), None), None)
        False
    """
    try:
        expected = prober.go(network=_rested(prober, reset), sums=True).sums
        network = _rested(prober, reset)
        prober.other(prober.example, 0, None, network=network)
        if reset is not None:
            reset(network)
        return prober.go(network=network, sums=True).sums != expected
    except Exception:  # of the network: a state of another shape, a reset that needs what it is not given
        return True


def _rested(prober: Prober, reset: Reset | None) -> nn.Module:
    network = prober.fresh()
    if reset is not None:
        reset(network)
    return network


def own_reset(libraries: list[Library]) -> Reset | None:
    """Return what puts the neurons of some libraries to rest.

    Example:
        >>> own_reset([]) is None
        True
    """
    own: tuple[Reset, ...] = tuple(library.reset for library in libraries if library.reset is not None)
    return None if not own else own[0] if len(own) == 1 else Both(own)


def left_over(network: nn.Module) -> list[tuple[str, str]]:
    """Return the attributes of a network's modules that hold what an earlier call may have left.

    Example:
        >>> left_over(nn.Linear(2, 2))
        []
    """
    return [
        (name, attribute)
        for name, module in named(network)
        for attribute, value in vars(module).items()
        if isinstance(value, Tensor) and value.numel() > 1 and value.any()
    ]


def changed_attributes(prober: Prober) -> dict[tuple[str, str], tuple[Any, Any]]:
    """Return what a pass changes in a network's modules: by module and attribute, the values before and after.

    Example:
        >>> changed_attributes(Prober(nn.Linear(2, 2), torch.rand(3, 2), None))
        {}
    """
    before, after = prober.fresh(), prober.go().network
    found = {}
    for (name, one), (_, other) in zip(named(before), named(after), strict=False):
        held, holds = _held(one), _held(other)
        for key in [*held, *(key for key in holds if key not in held)]:
            pair = held.get(key, _ABSENT), holds.get(key, _ABSENT)
            if not _same(*pair):
                found[name, key] = pair
    return found


def find_reset(prober: Prober, libraries: list[Library], given: Reset | str | None) -> tuple[Reset | None, str]:
    """Return what puts a network to rest, and how it was told.

    Raises:
        ValueError: the network keeps a state and nothing is known to put it to rest.
    """
    if given is None:
        return None, "none, as you said"
    if not isinstance(given, str):
        if leaks(prober, given):
            raise ValueError(
                f"{kept(prober.rest, list(changed_attributes(prober)))}, in spite of the reset=... that is given: "
                "it must put all of that to rest"
            )
        return given, "yours"
    known = [library for library in libraries if library.reset is not None]
    whose = " and ".join(library.name for library in known)
    reset = own_reset(known)
    own = () if reset is None else (reset,)
    if not leaks(prober, reset):
        return reset, f"{whose}'s own" if whose else "none needed"
    for named_reset, why in methods(prober.rest):
        candidate = Both((*own, named_reset)) if own else named_reset
        if _keeps_weights(prober, candidate) and not leaks(prober, candidate):
            return candidate, why
    changed = changed_attributes(prober)
    values = {place: before for place, (before, _) in changed.items()}

    def restoring(places: Iterable[tuple[str, str]]) -> Reset:
        restored = Restore({place: copy.deepcopy(values[place]) for place in places})
        return Both((*own, restored)) if own else restored

    if values and all(map(_is_rest, values.values())) and not leaks(prober, restoring(values)):
        places = list(values)
        for name in dict.fromkeys(attribute for _, attribute in values):
            # What no pass depends on is no state, and may be read behind it, or count.
            fewer = [place for place in places if place[1] != name]
            if fewer and not _is_read(prober, restoring(values), name, changed) and not leaks(prober, restoring(fewer)):
                places = fewer
        return restoring(places), f"{_places(places)} as before the first call"
    raise ValueError(
        f"{kept(prober.rest, list(changed_attributes(prober)))}: pass reset=..., a function that takes the "
        "network and puts it to rest, such as "
        "lambda net: [neuron.reset() for neuron in net.modules() if hasattr(neuron, 'reset')], "
        "or a network that has not been called yet; or reset=None, if the state is to go on"
    )


def _is_read(prober: Prober, reset: Reset, name: str, changed: Mapping[tuple[str, str], tuple[Any, Any]]) -> bool:
    """Whether a pass begins from an attribute, or adds to what it holds: from one that is far off, another comes."""
    network = _rested(prober, reset)
    try:
        for (module, attribute), (_, after) in changed.items():
            if attribute == name:
                far = torch.full_like(after, 1e3) if isinstance(after, Tensor) else copy.deepcopy(after)
                setattr(network.get_submodule(module), name, far)
        done = prober.go(network=network, sums=True)
        grown = any(
            _size(getattr(network.get_submodule(module), name)) > _size(after)
            for (module, attribute), (_, after) in changed.items()
            if attribute == name
        )
        return grown or done.sums != prober.go(network=_rested(prober, reset), sums=True).sums
    except Exception:  # of the network: a state of another shape
        return True


def _size(value: Any) -> int:
    return value.numel() if isinstance(value, Tensor) else len(value) if isinstance(value, list | tuple | dict) else 0


def methods(network: nn.Module) -> list[tuple[CallReset, str]]:
    """Return what, by its name, may put a network to rest, and in words what that is.

    Example:
        >>> methods(nn.Linear(2, 2))
        []
    """
    found = []
    for name in NAMES:
        if callable(getattr(network, name, None)):
            found.append((CallReset(name, whole=True), f"the network's {name}()"))
        others = {type(m).__name__ for m in resettable(network, name) if m is not network}
        if others:
            found.append((CallReset(name, whole=False), f"{name}() of {', '.join(sorted(others)[:3])}"))
    return found


def _keeps_weights(prober: Prober, reset: Reset) -> bool:
    """Whether a method of which the name alone is known leaves the weights as they are."""
    network = copy.deepcopy(prober.rest)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items() if isinstance(tensor, Tensor)}
    try:
        reset(network)
    except Exception:  # it may need anything
        return False
    after = network.state_dict()
    return before.keys() <= after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def kept(network: nn.Module, where: list[tuple[str, str]]) -> str:
    """Say in which attributes a network keeps its state.

    Example:
        >>> kept(nn.ReLU(), [("", "v")])
        'ReLU keeps a state from one call to the next, in v'
    """
    return f"{type(network).__name__} keeps a state from one call to the next" + (
        f", in {_places(where)}" if where else ""
    )


def _places(places: Iterable[tuple[str, str]], most: int = 3) -> str:
    shown = [".".join(filter(None, place)) for place in places]
    return ", ".join(shown[:most]) + (f" and {len(shown) - most} more" if len(shown) > most else "")


def _held(module: nn.Module) -> dict[str, Any]:
    own = vars(module)
    values = {key: value for key, value in own.items() if not key.startswith(("_forward", "_backward", "_modules"))}
    for kind in ("_parameters", "_buffers", "_non_persistent_buffers_set", "_state_dict_hooks", "training"):
        values.pop(kind, None)
    # SpikingJelly keeps a neuron's state in dictionaries of its own.
    values |= own.get("_buffers", {})
    return values


def _same(one: Any, other: Any, depth: int = 4) -> bool:
    if one is other or isinstance(one, nn.Module) or not depth:
        return True
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and bool(((one == other) | ((one != one) & (other != other))).all())
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key], depth - 1) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(_same(a, b, depth - 1) for a, b in zip(one, other, strict=True))
    if isinstance(one, int | float | str | bool | None) or isinstance(other, int | float | str | bool | None | Tensor):
        return type(one) is type(other) and one == other
    # Anything else is copied with the module, so that its identity tells nothing.
    return type(one) is type(other)


def _is_rest(value: Any) -> bool:
    """Whether a value can be one of before the first call, and not what a call left."""
    if isinstance(value, Tensor):
        return value.is_leaf and (value.numel() <= 1 or not value.any())
    if isinstance(value, dict):
        return all(map(_is_rest, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_rest, value))
    return isinstance(value, int | float | str | bool | None)
