"""Read the entries of a recipe from presets, files and options, and merge them. Later layers override earlier ones."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import components
from .._utils.files import write_text
from .._utils.yaml_text import as_yaml, parse
from ..components.entries import merge, read, write
from ..components.registry import suggestion
from ..method import Method
from ..method.method import METHODS, NETWORKS
from .recipe import Recipe

Entries = dict[str, Any]

FOLDER = Path(__file__).parent
PRESETS: dict[str, Entries] = {
    **{name: {"method": write(method)} for name, method in METHODS.items()},
    **{name: {"method": write(Method()), "network": entries} for name, entries in NETWORKS.items()},
}
"""Presets by name: each a part of a recipe."""


def built_in() -> dict[str, Path]:
    """Return the files of the built-in recipes by name."""
    return {path.stem: path for path in sorted((FOLDER / "built_in").glob("*.yaml"))}


def layer(name: str | Path, with_method: bool = True) -> Entries:
    """Return the entries of a preset, a built-in recipe or a YAML file, on demand without the method of presets."""
    if str(name) in PRESETS:
        return _preset(str(name), with_method)
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
    return _read_file(path, with_method)


def _read_file(path: Path, with_method: bool = True) -> Entries:
    """Read a YAML file of entries, which override the entries of the presets that the file names."""
    try:
        entries = parse(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is {error}") from None
    if not isinstance(entries, dict):
        raise ValueError(f"{path} is not a recipe: expected entries like 'training: {{epochs: 10}}'")
    names = entries.pop("presets", [])
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not all(isinstance(name, str) and name in PRESETS for name in names):
        raise ValueError(f"{path}: presets must be a list of names among {', '.join(PRESETS)}, got {names!r}")
    return merged(*(_preset(name, with_method) for name in names), entries)


def _preset(name: str, with_method: bool) -> Entries:
    # Its method has all options, so that none of a previous layer's method stays.
    return {key: value for key, value in PRESETS[name].items() if with_method or key != "method"}


def merged(*layers: Mapping[str, Any]) -> Entries:
    """Return layers of entries as one. Later ones override earlier ones."""
    entries: Entries = {}
    for entries_of_layer in layers:
        entries = merge(Recipe, entries, entries_of_layer)
    return entries


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
    if not _has_custom_network(entries):
        return entries
    recipes = built_in()
    return merged(*(item if isinstance(item, Mapping) else layer(item, str(item) not in recipes) for item in layers))


def _has_custom_network(entries: Entries) -> bool:
    network = entries.get("network")
    name = network.get("kind") if isinstance(network, Mapping) else network
    component = components.network.components.get(name) if isinstance(name, str) else None
    return component is not None and not component.is_built_in


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
