"""Where branches go by default: the ends of stages, or places spread evenly over a network's layers."""

import re
from collections.abc import Collection, Iterator, Mapping

from torch import nn

from ..method import stages
from .probing import Event, is_layer, named

_ATTENTION = re.compile(r"attention|attn|(^|_)ssa|^([qkv]|qkv|q_|k_|v_|to_[qkv])(_|$)", re.IGNORECASE)
_ATTENTION_CLASS = re.compile(r"attention|attn|^ssa|selfatt", re.IGNORECASE)
# A list of blocks may be called after what is in them.
_LIST = re.compile(r"block|layer|stage", re.IGNORECASE)
# More than these are blocks, of which some will do.
_MOST_STAGES = 6


def stand_in(network: nn.Module, name: str, events: Mapping[str, Event]) -> str:
    """Return the submodule whose output is a module's, for one that its network goes through by itself.

    Such are a ``ModuleList`` and the containers of a traced network: their last child that is called stands for them.

    Example:
        >>> from torch import nn
        >>> stand_in(nn.ModuleDict({"a": nn.ModuleList([nn.ReLU()])}), "a", {"a.0": Event(0, 1, (2,))})
        'a.0'
    """
    if name in events or not isinstance(network.get_submodule(name), nn.Module):
        return name
    inside = [other for other in events if other.startswith(f"{name}.")]
    if not inside:
        return name
    last = max(events[other].end for other in inside)
    # A container ends after what it holds, and is shorter.
    return next(other for other in inside if events[other].end == last)


def stage_taps(network: nn.Module, events: Mapping[str, Event], neurons: Collection[str]) -> list[str]:
    """Return the ends of a network's stages, all but the last; nothing if it has none that span most of it."""
    names = stages(network)
    if getattr(network, "stage_names", None) is not None:
        return [stand_in(network, name, events) for name in names[:-1]]
    groups: dict[str, list[str]] = {}
    for name in names:
        parent, _, last = name.rpartition(".")
        groups.setdefault(f"{parent}/{re.sub(r'[._]?[0-9]+$', '', last)}", []).append(name)
    units = _units(network, events, neurons)
    layers = _layers(network, events)
    best: list[str] = []
    for group in groups.values():
        held = [[unit for unit in layers if unit == name or unit.startswith(f"{name}.")] for name in group]
        inside = [any(unit.startswith(f"{name}.") for unit in units) for name in group]
        spans = sum(map(len, held)) * 2 >= len(layers) - 2
        if (
            2 <= len(group) <= _MOST_STAGES
            and all(held)
            and (all(inside) or not neurons)
            and spans
            and len(group) > len(best)
        ):
            best = group
    order = sorted((stand_in(network, name, events) for name in best), key=lambda name: events[name].end)
    return order[:-1]


def learning(network: nn.Module, events: Mapping[str, Event]) -> Mapping[str, Event]:
    """Return the modules that a branch can teach something: all but those before which nothing is trained.

    Such as neurons that encode the input, and layers that are frozen. What the place of a parameter does not tell, such
    as one of a module that is not called itself, may lie before any.
    """
    trained = {name.rpartition(".")[0] for name, one in network.named_parameters() if one.requires_grad}
    if not trained <= set(events) or not trained:
        return events

    def before(owner: str, name: str, event: Event) -> bool:
        return not owner or f"{name}.".startswith(f"{owner}.") or events[owner].begin <= event.end

    return {name: event for name, event in events.items() if any(before(owner, name, event) for owner in trained)}


def spread(
    network: nn.Module, events: Mapping[str, Event], neurons: Collection[str], number: int
) -> Iterator[list[str]]:
    """Yield, for each of a number of places evenly spread over a network's neurons or layers, what can be tapped there.

    Never the last neuron, nor anything inside attention, nor a module whose calls are those of several layers.
    """
    units = _units(network, events, neurons)
    ends = sorted(events[name].end for name in units)
    spiking = any(name in neurons for name in units)
    total = len(ends)
    last = total - 1 if spiking else max(total - 2, 1)
    layer_calls = {events[name].calls for name in _layers(network, events)} or {1}
    modules = dict(named(network))
    found: list[tuple[str, int, int]] = []
    for name, event in events.items():
        before = sum(end <= event.end for end in ends)
        whole = not name or not 1 <= before <= last or before == total
        bad = event.shape is None or len(event.shape) < 2 or not event.alike or event.calls not in {1, *layer_calls}
        ancestors = [part for part in _ancestors(name) if part]
        attention = any(_ATTENTION.search(part) and not _LIST.search(part) for part in name.split(".")) or any(
            _ATTENTION_CLASS.search(type(modules[part]).__name__) for part in [*ancestors, name] if part in modules
        )
        if whole or bad or attention or isinstance(modules[name], nn.Flatten | nn.Dropout):
            continue
        depth = sum(part in events for part in ancestors)
        # Of what ends at the same place: behind a neuron at once, or else behind the activation, next to the next
        # layer.
        begun = any(event.end > events[unit].begin for unit in units if events[unit].end > event.end)
        nested = any(other.startswith(f"{name}.") for other in units) or name in units
        rank = 0 if (nested if spiking else not begun) else 1
        found.append((name, before, 2 * depth + rank))
    number = min(number, last)
    slot = total / (number + 1)
    places = [slot * (place + 1) for place in range(number)]

    def near(before: int, wanted: float) -> bool:
        return abs(before - wanted) <= 0.75 * slot

    # The outermost modules that lie near all places: blocks rather than what is in them.
    for depth in sorted({rank // 2 for _, _, rank in found}):
        outer = [one for one in found if one[2] // 2 <= depth]
        if all(any(near(before, wanted) for _, before, _ in outer) for wanted in places):
            found = outer
            break
    taken: set[int] = set()
    for wanted in places:
        costs = {
            name: (abs(before - wanted) / slot + 0.1 * rank, events[name].end if spiking else -events[name].end)
            for name, before, rank in found
            if before not in taken and near(before, wanted)
        }
        ordered = sorted(costs, key=lambda name: costs[name])
        if ordered:
            taken.add(next(before for name, before, _ in found if name == ordered[0]))
            yield ordered


def _units(network: nn.Module, events: Mapping[str, Event], neurons: Collection[str]) -> list[str]:
    """What depth is measured in: neurons, or layers where there are no two of them."""
    spiking = [name for name in neurons if name in events]
    layers = _layers(network, events)
    if len(spiking) > 1:
        return spiking
    if len(layers) > 1:
        return layers
    return [*spiking, *layers] or [name for name in events if name]


def _layers(network: nn.Module, events: Mapping[str, Event]) -> list[str]:
    """The layers that are called; where PyTorch's are fewer than two, modules that hold a matrix of their own."""
    layers = [name for name, module in named(network) if is_layer(module) and name in events]
    if len(layers) > 1:
        return layers
    own = [
        name
        for name, module in named(network)
        if name in events
        and not isinstance(module, nn.Embedding | nn.LayerNorm)
        and any(p is not None and p.dim() > 1 for p in vars(module).get("_parameters", {}).values())
    ]
    own = [name for name in own if name and not any(other.startswith(f"{name}.") for other in own)]
    return own if len(own) > 1 else layers


def _ancestors(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts))]
