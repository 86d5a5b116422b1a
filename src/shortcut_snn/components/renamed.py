"""Former names of components and options, which recipes, run folders and network files may still hold."""

from collections.abc import Mapping
from typing import Any

from .registry import Kind, Option

COMPONENTS = {"data": {"nmnist_npz": "events_npz"}}
OPTIONS = {"augmentation": {"least": "min_area"}, "neuron": {"most": "max_spikes"}}


def named_component(kind: Kind, entries: Any) -> Any:
    """Return the entries of a component as a mapping, with its current name; a name alone stands for the defaults."""
    entries = {"kind": entries} if isinstance(entries, str) else entries
    name = entries.get("kind") if isinstance(entries, Mapping) else None
    current = COMPONENTS.get(kind.name, {}).get(name) if isinstance(name, str) else None
    return entries if current is None else {**entries, "kind": current}


def named_options(kind: Kind, options: Mapping[str, Option], entries: Mapping[str, Any]) -> dict[str, Any]:
    """Return entries with the current names of the options of a component."""
    names = {old: new for old, new in OPTIONS.get(kind.name, {}).items() if new in options and old not in options}
    return {names.get(name, name): value for name, value in entries.items()}
