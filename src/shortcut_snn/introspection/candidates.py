"""Candidates for taps: the ends of stages, or modules spread evenly over the depth of a network.

Depth is counted in units: spiking neurons, or layers in a network with fewer than two neurons.
"""

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from ..method import PLACEMENTS, resolve, stages
from .layers import holds_matrix, is_layer
from .recorder import Event, named_modules

Events = Mapping[str, Event]
DEFAULT_TAPS = 3
_ATTENTION = re.compile(r"attention|attn|(^|_)ssa|^([qkv]|qkv|q_|k_|v_|to_[qkv])(_|$)", re.IGNORECASE)
_ATTENTION_CLASS = re.compile(r"attention|attn|^ssa|selfatt", re.IGNORECASE)
# A list of blocks may be named after what is in them.
_LIST_OF_BLOCKS = re.compile(r"block|layer|stage", re.IGNORECASE)
# A longer row of numbered modules is a row of blocks, of which a few will do.
_MOST_STAGES = 6


@dataclass
class Candidates:
    """Finds the candidates for each tap of a network. Those of ``trained`` come after trained parameters."""

    network: nn.Module
    events: Events
    trained: Events
    neurons: Sequence[str]

    def for_taps(self, taps: str | int | Sequence[str]) -> list[list[str]]:
        """Return the candidates for each tap, the best first; one candidate for a tap whose place is certain.

        Raises:
            ValueError: stages or candidates are missing, or a named tap is not called.
        """
        if isinstance(taps, int):
            if taps < 0:
                raise ValueError(f"taps must be a number of branches, a placement or a list of names, got {taps}")
            return self._spread(taps)
        if taps == "auto":
            ends = [name for name in stage_ends(self.network, self.events, self.neurons) if name in self.trained]
            return [[name] for name in ends] or self._spread(DEFAULT_TAPS)
        try:
            names = resolve(self.network, taps)
        except ValueError as error:
            if not isinstance(taps, str) or taps not in PLACEMENTS:
                raise
            raise ValueError(f"{self._no_stages()}; or taps=3 for three, evenly spread") from error
        chosen = [called_stand_in(self.network, name, self.events) for name in names]
        for name in chosen:
            if name not in self.events:
                raise ValueError(
                    f"the tap {name!r} is not called in a pass of the example: tap another, as in taps=3 for three "
                    "that are, evenly spread"
                )
        return [[name] for name in chosen]

    def _spread(self, number: int) -> list[list[str]]:
        if not number:
            return []
        for events in (self.trained, self.events):
            options = list(spread_evenly(self.network, events, self.neurons, number))
            if options:
                # A lone candidate is listed twice, since its place is not certain.
                return [names if len(names) > 1 else names * 2 for names in options]
        raise ValueError(f"{self._no_stages()}; or taps=[] for none")

    def _no_stages(self) -> str:
        names = self.neurons or [name for name in self.events if name]
        if not names:
            return (
                f"{type(self.network).__name__} does not call any submodule, so there is no output to tap: keep its "
                "layers in submodules and call these, as in self.layer(x)"
            )
        listed = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
        return (
            f"{type(self.network).__name__} has no submodules named layer1, layer2, ... as stages: pass taps=[...] "
            f"with names of submodules, such as: {listed}"
        )


def called_stand_in(network: nn.Module, name: str, events: Events) -> str:
    """Return a module's name, or for a container that is never called the name of its last child that is.

    A ``ModuleList`` is such a container.
    """
    inside = [other for other in events if other.startswith(f"{name}.")]
    if name in events or not isinstance(network.get_submodule(name), nn.Module) or not inside:
        return name
    last = max(events[other].end for other in inside)
    # Events are in the order of their ends, so a container comes after what it holds.
    return next(other for other in inside if events[other].end == last)


def stage_ends(network: nn.Module, events: Events, neurons: Collection[str]) -> list[str]:
    """Return the ends of a network's stages, all but the last; none if no stages span most of its layers.

    Submodules are stages if they are numbered siblings, between 2 and 6, and each holds a layer and, in a network with
    neurons, a neuron.
    """
    names = stages(network)
    if getattr(network, "stage_names", None) is not None:
        return [called_stand_in(network, name, events) for name in names[:-1]]
    siblings: dict[str, list[str]] = {}
    for name in names:
        parent, _, last = name.rpartition(".")
        siblings.setdefault(f"{parent}/{re.sub(r'[._]?[0-9]+$', '', last)}", []).append(name)
    longest: list[str] = []
    layers = _layers(network, events)
    for siblings_of_one_name in siblings.values():
        # An empty stage is a placeholder.
        group = [name for name in siblings_of_one_name if any(f"{layer}.".startswith(f"{name}.") for layer in layers)]
        if len(group) > len(longest) and _are_stages(group, network, events, neurons):
            longest = group
    ends = [called_stand_in(network, name, events) for name in longest]
    return sorted(ends, key=lambda name: events[name].end)[:-1]


def _are_stages(group: list[str], network: nn.Module, events: Events, neurons: Collection[str]) -> bool:
    layers, units = _layers(network, events), _units(network, events, neurons)
    held = [[layer for layer in layers if layer == name or layer.startswith(f"{name}.")] for name in group]
    holds_units = all(any(unit.startswith(f"{name}.") for unit in units) for name in group)
    spans_most = sum(map(len, held)) * 2 >= len(layers) - 2
    return 2 <= len(group) <= _MOST_STAGES and all(held) and (holds_units or not neurons) and spans_most


@dataclass(frozen=True)
class _Site:
    """A module that may be tapped.

    Args:
        name: of the module.
        units: number of units that end no later than it.
        nesting: number of called modules around it.
        awkward: whether another site of the same depth is likely to be better.
    """

    name: str
    units: int
    nesting: int
    awkward: bool

    @property
    def rank(self) -> int:
        """The order among sites of the same depth, the best first."""
        return 2 * self.nesting + self.awkward


def spread_evenly(network: nn.Module, events: Events, neurons: Collection[str], number: int) -> Iterator[list[str]]:
    """Yield, for each of a number of depths spread evenly over a network, the modules to tap there, the best first.

    1. Sites are modules between the first unit and the last, outside attention, that are called as layers are.
    2. The outermost sites that lie near all depths are kept: blocks rather than what is in them.
    3. For each depth the sites near it are ordered by distance and nesting. No two depths have the same best place.
    """
    scale = _DepthScale(network, events, neurons)
    sites = [site for name in events if (site := scale.site(name)) is not None]
    number = min(number, scale.last)
    slot = len(scale.units) / (number + 1)
    depths = [slot * (index + 1) for index in range(number)]

    def is_near(site: _Site, depth: float) -> bool:
        return abs(site.units - depth) <= 0.75 * slot

    for nesting in sorted({site.nesting for site in sites}):
        outer = [site for site in sites if site.nesting <= nesting]
        if all(any(is_near(site, depth) for site in outer) for depth in depths):
            sites = outer
            break
    taken: set[int] = set()
    for depth in depths:

        def cost(site: _Site, depth: float = depth) -> tuple[float, int]:
            end = events[site.name].end
            return abs(site.units - depth) / slot + 0.1 * site.rank, end if scale.spiking else -end

        nearby = sorted((site for site in sites if site.units not in taken and is_near(site, depth)), key=cost)
        if nearby:
            taken.add(nearby[0].units)
            yield [site.name for site in nearby]


class _DepthScale:
    """Measures the depth of a network's modules in units."""

    def __init__(self, network: nn.Module, events: Events, neurons: Collection[str]) -> None:
        self.events = events
        self.modules = dict(named_modules(network))
        self.units = _units(network, events, neurons)
        self.spiking = any(unit in neurons for unit in self.units)
        # The last unit is the network's output, or in a network without neurons leads to it.
        self.last = len(self.units) - 1 if self.spiking else max(len(self.units) - 2, 1)
        self._layers = layers = [events[layer] for layer in _layers(network, events)]
        # What ends after all layers is the network's output already.
        self._last_layer = max((layer.end for layer in layers), default=math.inf) if len(layers) > 1 else math.inf

    def site(self, name: str) -> _Site | None:
        """Return a module as a site, None if it should not be tapped."""
        event, module = self.events[name], self.modules[name]
        before = sum(self.events[unit].end <= event.end for unit in self.units)
        if not name or not 1 <= before <= self.last or before == len(self.units):
            return None
        if event.shape is None or len(event.shape) < 2 or not event.same_shape or event.end >= self._last_layer:
            return None
        if not event.is_stepped(self._layers) or isinstance(module, nn.Flatten | nn.Dropout):
            return None
        if _is_in_attention(name, self.modules):
            return None
        # By calls, not by names: a module may be registered under several names.
        nesting = sum(other.begin < event.begin and event.end < other.end for other in self.events.values())
        return _Site(name, before, nesting, self._is_awkward(name, event))

    def _is_awkward(self, name: str, event: Event) -> bool:
        if self.spiking:
            # Best is a neuron, or a module that holds one.
            return name not in self.units and not any(unit.startswith(f"{name}.") for unit in self.units)
        # Best is the end of the activation, before the next layer begins.
        later = [self.events[unit] for unit in self.units if self.events[unit].end > event.end]
        return any(event.end > unit.begin for unit in later)


def _is_in_attention(name: str, modules: Mapping[str, nn.Module]) -> bool:
    if any(_ATTENTION.search(part) and not _LIST_OF_BLOCKS.search(part) for part in name.split(".")):
        return True
    around = [*_ancestors(name), name]
    return any(_ATTENTION_CLASS.search(type(modules[outer]).__name__) for outer in around if outer in modules)


def _units(network: nn.Module, events: Events, neurons: Collection[str]) -> list[str]:
    """Return the called neurons, or the called layers if there are fewer than two neurons."""
    spiking = [name for name in neurons if name in events]
    layers = _layers(network, events)
    if len(spiking) > 1:
        return spiking
    if len(layers) > 1:
        return layers
    return [*spiking, *layers] or [name for name in events if name]


def _layers(network: nn.Module, events: Events) -> list[str]:
    """Return the called layers; if PyTorch's are fewer than two, the innermost modules with a matrix."""
    layers = [name for name, module in named_modules(network) if is_layer(module) and name in events]
    if len(layers) > 1:
        return layers
    with_matrix = [
        name
        for name, module in named_modules(network)
        if name in events and not isinstance(module, nn.Embedding | nn.LayerNorm) and holds_matrix(module)
    ]
    innermost = [n for n in with_matrix if n and not any(other.startswith(f"{n}.") for other in with_matrix)]
    return innermost if len(innermost) > 1 else layers


def _ancestors(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts))]
