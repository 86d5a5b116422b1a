"""Recipes: the dataclass with every entry that decides the outcome of a run, and its presets, files and options."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial, reduce
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import nn

from .. import components

# Importing these packages registers the built-in components.
from .. import data as _data  # noqa: F401
from .. import deploy as _deploy  # noqa: F401
from .. import nets as _nets  # noqa: F401
from .. import neurons as _neurons  # noqa: F401
from .._utils.files import write_text
from .._utils.yaml_text import as_yaml, parse
from ..components import component_of
from ..components.entries import merge, read, write
from ..components.registry import suggestion
from ..method import Method
from ..method.method import METHODS, NETWORKS, component_field
from ..training import Classification as _Classification  # noqa: F401
from ..training import Training
from ..training.optimizers import make_optimizer

Entries = dict[str, Any]


@dataclass(frozen=True)
class Recipe:
    """Every entry that decides the outcome of a run.

    Args:
        data: the data set.
        network: the network.
        neuron: the neurons of the network, if it takes any.
        task: loss and metrics.
        method: how the gradient reaches shallow layers.
        optimizer: an optimizer of torch.optim, with its own options, or muon.
        lr_schedule: the learning rate over training, after the warm-up.
        training: duration, hardware, seed.
        loggers: trackers that receive the metrics, in addition to the run's folder.

    Raises:
        ValueError: parts that contradict each other.

    Example:
        >>> recipe = recipe_of({"network": {"kind": "resnet8", "width": 8}}, "evolutionary")
        >>> recipe.method.branches.branch_weight
        LinearDecay(initial=0.25)
    """

    data: Annotated[Any, components.data] = component_field(components.data, "digits")
    network: Annotated[Any, components.network] = component_field(components.network, "resnet18")
    neuron: Annotated[Any, components.neuron] = component_field(components.neuron, "lif")
    task: Annotated[Any, components.task] = component_field(components.task, "classification")
    method: Method = field(default_factory=Method)
    optimizer: Annotated[Any, components.optimizer] = component_field(
        components.optimizer, "adamw", lr=0.01, weight_decay=0.02
    )
    lr_schedule: Annotated[Any, components.lr_schedule] = component_field(components.lr_schedule, "cosine")
    training: Training = field(default_factory=Training)
    loggers: Annotated[tuple[Any, ...], components.logger] = ()

    def __post_init__(self) -> None:
        if self.training.warmup and hasattr(self.lr_schedule, "pct_start"):
            raise ValueError(
                f"training.warmup: {component_of(self.lr_schedule).name} has its own warm-up, lr_schedule.pct_start; "
                "leave training.warmup out"
            )
        if self.training.progressive_resizing is not None and self.time_steps is not None:
            self.training.progressive_resizing.check(self.time_steps)
        # Torch checks options of an optimizer only when it is built.
        make_optimizer(self.optimizer, [nn.Parameter(torch.zeros(1, 1))])

    def to_dict(self) -> dict[str, Any]:
        """Return all entries, defaults included, as nested dictionaries, lists and plain values."""
        entries: dict[str, Any] = write(self)
        return entries

    @property
    def time_steps(self) -> int | None:
        """T, or None if the network has no such option."""
        return getattr(self.network, "time_steps", None)

    @property
    def unused_neuron(self) -> str:
        """A warning if the recipe configures neurons and the network has its own, else an empty string."""
        if self.network.accepts("make_neuron") or self.neuron == Recipe().neuron:
            return ""
        return f"network {component_of(self.network).name!r} has its own neurons: the entries of neuron have no effect"

    def __str__(self) -> str:
        network, data = component_of(self.network).name, component_of(self.data).name
        return f"{network} on {data}, {self.method}"


PRESETS: dict[str, Entries] = {
    **{name: {"method": write(method)} for name, method in METHODS.items()},
    **{name: {"method": write(Method()), "network": entries} for name, entries in NETWORKS.items()},
}
"""Presets by name: each a part of a recipe."""


def built_in() -> dict[str, Path]:
    """Return the files of the built-in recipes by name."""
    return {path.stem: path for path in sorted((Path(__file__).parent / "built_in").glob("*.yaml"))}


def layer(name: str | Path, with_method: bool = True) -> Entries:
    """Return the entries of a preset, a built-in recipe or a YAML file, on demand without the method."""
    entries = {"presets": [str(name)]} if str(name) in PRESETS else _read_file(name)
    # The method of a preset has all options, so that none of a previous layer's method stays.
    made = merged(*(PRESETS[preset] for preset in entries.pop("presets")), entries)
    return {key: value for key, value in made.items() if with_method or key != "method"}


def _read_file(name: str | Path) -> Entries:
    """Read a built-in recipe or a YAML file, whose entries override those of the ``presets`` that it names."""
    recipes = built_in()
    path = recipes.get(str(name), Path(name))
    if not path.is_file():
        names = [*PRESETS, *recipes]
        if path.suffix in (".yaml", ".yml"):
            raise ValueError(f"the recipe {path} does not exist: name a YAML file, a recipe or a preset")
        raise ValueError(
            f"no recipe or preset {str(name)!r}{suggestion(str(name), names)}: name a YAML file, or one of "
            f"{', '.join(names)}"
        )
    try:
        entries = parse(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is {error}") from None
    if not isinstance(entries, dict):
        raise ValueError(f"{path} is not a recipe: expected entries like 'training: {{epochs: 10}}'")
    presets = entries.get("presets", [])
    presets = [presets] if isinstance(presets, str) else presets
    if not isinstance(presets, list) or not all(isinstance(each, str) and each in PRESETS for each in presets):
        raise ValueError(f"{path}: presets must be a list of names among {', '.join(PRESETS)}, got {presets!r}")
    return entries | {"presets": presets}


def merged(*layers: Mapping[str, Any]) -> Entries:
    """Return layers of entries as one. Later ones override earlier ones."""
    return reduce(partial(merge, Recipe), layers, {})


def parse_options(options: Sequence[str]) -> Entries:
    """Return the entries of options such as ``network.width=32``.

    Raises:
        ValueError: an option without a value, or whose value is not YAML.

    Example:
        >>> parse_options(["network.width=32", "training.epochs=3"])
        {'network': {'width': 32}, 'training': {'epochs': 3}}
    """
    entries: Entries = {}
    for option in _kinds_first(options):
        key, equals, text = option.partition("=")
        if not equals:
            raise ValueError(f"{option!r} is not an entry: write KEY=VALUE, as in network.width=32")
        try:
            value = parse(text)
        except ValueError:
            raise ValueError(f"{key}: the value {text!r} is not YAML") from None
        for part in reversed(key.strip().split(".")):
            value = {part: value}
        entries = merge(Recipe, entries, value)
    return entries


def _kinds_first(options: Sequence[str]) -> list[str]:
    """Return options with those that name a kind first, outer ones before inner ones.

    Merging a kind drops entries that it does not have, so it precedes its entries. Only the first of two options for
    one kind moves: the second one changes the kind later.
    """
    keys = [option.partition("=")[0].strip() for option in options]
    first = [index for index, key in enumerate(keys) if key.endswith(".kind") and key not in keys[:index]]
    first.sort(key=lambda index: keys[index].count("."))
    rest = [index for index in range(len(keys)) if index not in first]
    return [options[index] for index in [*first, *rest]]


def from_dict(entries: Mapping[str, Any]) -> Recipe:
    """Return the recipe of nested entries. Entries that are left out have their defaults."""
    recipe: Recipe = read(Recipe, entries, "")
    return recipe


def merged_layers(*layers: str | Path | Mapping[str, Any]) -> Entries:
    """Return presets, recipes, files and entries as one. Later ones override earlier ones.

    The method of a built-in recipe is that of its own network: a custom network trains with the method that other
    layers name, or without branches.
    """
    entries = merged(*(item if isinstance(item, Mapping) else layer(item) for item in layers))
    network = entries.get("network")
    name = network.get("kind") if isinstance(network, Mapping) else network
    component = components.network.components.get(name) if isinstance(name, str) else None
    if component is None or component.is_built_in:
        return entries
    recipes = built_in()
    return merged(*(item if isinstance(item, Mapping) else layer(item, str(item) not in recipes) for item in layers))


def recipe_of(*layers: str | Path | Mapping[str, Any]) -> Recipe:
    """Return the recipe of presets, recipes, files and entries. Later ones override earlier ones.

    Raises:
        ValueError: an unknown name or entry, or an invalid value.

    Example:
        >>> recipe_of("digits", "vanilla", {"training": {"epochs": 2}}).training.epochs
        2
    """
    return from_dict(merged_layers(*layers))


def changed(recipe: Recipe, *layers: str | Mapping[str, Any]) -> Recipe:
    """Return a copy of a recipe with presets or entries laid over it.

    Raises:
        ValueError: an unknown name or entry, or an invalid value.

    Example:
        >>> changed(recipe_of("digits"), "vanilla", {"training": {"epochs": 1}}).method.branches is None
        True
    """
    return recipe_of(recipe.to_dict(), *layers)


def write_recipe(recipe: Recipe, path: Path) -> None:
    """Write a recipe to a YAML file, atomically."""
    write_text(path, as_yaml(recipe.to_dict()))
