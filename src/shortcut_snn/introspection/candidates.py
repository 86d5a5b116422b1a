"""Places of taps: the ends of stages or of blocks, or every k-th neuron or layer."""

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import pairwise

from torch import nn

from ..method.placement import resolve, stages
from .layers import is_layer
from .recorder import Event

Events = Mapping[str, Event]
DEFAULT_TAPS = 3
_NUMBERED = re.compile(r"(^|block|layer|stage)s?[._]?\d+$", re.IGNORECASE)
# A longer row of numbered modules is a row of blocks, of which a few will do.
_MAX_STAGES = 6


def named_places(network: nn.Module, taps: str | Sequence[str], events: Events) -> list[str]:
    """Return the modules that the caller names, or those of a placement."""
    places = [_called_stand_in(network, name, events) for name in resolve(network, taps)]
    for name in places:
        if name not in events:
            raise ValueError(
                f"the tap {name!r} is not called in a pass of the example: name another, or pass taps=3 for three "
                "evenly spread taps"
            )
    return places


def stage_ends(network: nn.Module, events: Events, neurons: Collection[str]) -> list[str]:
    """Return the ends of a network's stages, all but the last; none if no stages span most of its layers."""
    names = stages(network)
    if getattr(network, "stage_names", None) is not None:
        return [_called_stand_in(network, name, events) for name in names[:-1]]
    # A stem and a head need not be in a stage.
    return _longest_row(names, network, events, neurons, _MAX_STAGES, outside=2)


def rows(
    network: nn.Module, events: Events, neurons: Collection[str], usable: Callable[[str], bool]
) -> list[list[str]]:
    """Return rows of usable places, in the order of the network: the ends of blocks, neurons, the ends of layers.

    The last place of each is left out: it is the network's output, or leads to it. An only neuron stays if a layer
    follows it.
    """
    blocks = _longest_row(
        [name for name, _ in nn.Module.named_modules(network)], network, events, neurons, len(events), 0
    )
    spiking = sorted((name for name in neurons if name in events), key=lambda name: events[name].end)
    last_layer = max((events[name].begin for name in _layers(network, events)), default=0)
    is_hidden = len(spiking) == 1 and events[spiking[0]].end <= last_layer
    all_rows = (blocks, spiking if is_hidden else spiking[:-1], _layer_ends(network, events, usable))
    return [places for row in all_rows if (places := list(filter(usable, row)))]


def spread(places: Sequence[str], number: int) -> list[str]:
    """Return a number of places, evenly spread.

    Example:
        >>> spread(["a", "b", "c", "d", "e"], 2)
        ['b', 'd']
    """
    number = min(number, len(places))
    depths = [(index + 1) * (len(places) + 1) / (number + 1) for index in range(number)]
    return [places[math.ceil(depth - 0.5) - 1] for depth in depths]


def _called_stand_in(network: nn.Module, name: str, events: Events) -> str:
    """Return a module's name; for a container that is never called, as a ``ModuleList``, its last called child."""
    inside = [other for other in events if other.startswith(f"{name}.")]
    return name if name in events or not inside else max(inside, key=lambda other: events[other].end)


def _longest_row(
    names: Sequence[str], network: nn.Module, events: Events, neurons: Collection[str], most: int, outside: int
) -> list[str]:
    """Return the ends of the longest row of numbered siblings, all but the last, which span most layers.

    Each holds a layer and, in a network with neurons, a neuron.
    """
    siblings: dict[tuple[str, str], list[str]] = {}
    for name in names:
        parent, _, last = name.rpartition(".")
        if _NUMBERED.search(last):
            siblings.setdefault((parent, re.sub(r"[._]?\d+$", "", last)), []).append(name)
    layers, longest = _layers(network, events), list[str]()
    for group in siblings.values():
        held = {name: [layer for layer in layers if layer.startswith(f"{name}.")] for name in group}
        # An empty stage is a placeholder. A single layer among blocks is none, nor is one in a container.
        spiking = {name for name in group for unit in neurons if unit in events and unit.startswith(f"{name}.")}
        row = [name for name in group if held[name] and (name in spiking or not neurons)]
        spans_most = sum(len(held[name]) for name in row) * 2 >= len(layers) - outside
        if len(longest) < len(row) <= most and len(row) > 1 and spans_most:
            longest = row
    ends = [_called_stand_in(network, name, events) for name in longest]
    return sorted(ends, key=lambda name: events[name].end)[:-1]


def _layer_ends(network: nn.Module, events: Events, usable: Callable[[str], bool]) -> list[str]:
    """Return, for each layer, the last usable module before the next layer; the last such module only if alone."""
    layers = sorted((events[name] for name in _layers(network, events)), key=lambda event: event.begin)
    modules, ends = dict(nn.Module.named_modules(network)), list[str]()
    for layer, later in pairwise(layers):
        names = [
            name
            for name, event in events.items()
            if name and layer.end <= event.end < later.begin and len(event.shape or ()) > 1
            # A norm of its own for each time step would give its branch that step alone.
            if event.calls >= layer.calls and usable(name) and not isinstance(modules[name], nn.Flatten | nn.Dropout)
        ]
        ends += names[-1:]
    ends = list(dict.fromkeys(ends)) or [name for name in events if name][:1]
    return ends[:-1] or ends


def _layers(network: nn.Module, events: Events) -> list[str]:
    return [name for name, module in nn.Module.named_modules(network) if is_layer(module) and name in events]
