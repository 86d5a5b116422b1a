"""From what a person says, in files, presets and options, to one complete recipe: merged once, then checked."""

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from ..components import merge, read, suggestion
from ..files import write_text
from ..yaml_text import as_yaml, parse
from .presets import PRESETS
from .recipe import Recipe

Entries = dict[str, Any]


def built_in() -> dict[str, Path]:
    """Return the recipes that come with the package, by name."""
    folder = Path(str(resources.files(__package__)))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def layer(name: str | Path, presets: bool = True) -> Entries:
    """Return the entries of a preset, of a built-in recipe or of a file.

    Args:
        name: of the preset or recipe, or the file's path.
        presets: whether what it says by presets of the method is in it, beneath its own entries.

    Raises:
        ValueError: there is none of this name, or the file is none of entries.
    """
    known = built_in()
    if str(name) in PRESETS:
        return _preset(str(name), presets)
    path = known.get(str(name), Path(name))
    if not path.is_file():
        names = [*PRESETS, *known]
        raise ValueError(
            f"no recipe or preset {str(name)!r}{suggestion(str(name), names)}: give a YAML file, a preset "
            f"({', '.join(PRESETS)}) or a built-in recipe ({', '.join(known)})"
        )
    return read_file(path, presets)


def read_file(path: Path, presets: bool = True) -> Entries:
    """Read a YAML file of entries; what stands under ``presets`` in it is laid beneath the rest.

    Raises:
        ValueError: it is no YAML, or not of entries.
    """
    try:
        entries = parse(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is {error}") from None
    if not isinstance(entries, dict):
        raise ValueError(f"{path} is not a recipe: expected entries like 'training: {{epochs: 10}}'")
    named = entries.pop("presets", [])
    named = [named] if isinstance(named, str) else named
    if not isinstance(named, list) or not all(isinstance(each, str) and each in PRESETS for each in named):
        raise ValueError(f"{path}: presets is a list of some of {', '.join(PRESETS)}, got {named!r}")
    return merged(*(_preset(each, presets) for each in named), entries)


def _preset(name: str, method: bool) -> Entries:
    # In full: options that another method leaves behind would stay.
    entries = PRESETS[name] | {"method": from_dict(PRESETS[name]).to_dict()["method"]}
    return {key: value for key, value in entries.items() if method or key != "method"}


def merged(*layers: Mapping[str, Any]) -> Entries:
    """Return layers of entries as one; later ones win."""
    entries: Entries = {}
    for each in layers:
        entries = merge(Recipe, entries, each)
    return entries


def said(options: Sequence[str]) -> Entries:
    """Return the entries of options such as ``network.width=32``.

    Raises:
        ValueError: an option without a value, or whose value is no YAML.
    """
    entries: Entries = {}
    for option in _kinds_first(options):
        key, equals, text = option.partition("=")
        if not equals:
            raise ValueError(f"{option!r} is no entry: write KEY=VALUE, as in network.width=32")
        try:
            value = parse(text)
        except ValueError:
            raise ValueError(f"{key}: {text!r} is no value of an entry (it is not YAML)") from None
        for part in reversed(key.strip().split(".")):
            value = {part: value}
        entries = merge(Recipe, entries, value)
    return entries


def _kinds_first(options: Sequence[str]) -> list[str]:
    """Put where a kind is first named in front, outer ones before inner ones: all options are held against it."""
    keys = [option.partition("=")[0].strip() for option in options]
    first = [n for n, key in enumerate(keys) if key.endswith(".kind") and key not in keys[:n]]
    first.sort(key=lambda n: keys[n].count("."))
    return [options[n] for n in [*first, *(n for n in range(len(keys)) if n not in first)]]


def from_dict(entries: Mapping[str, Any]) -> Recipe:
    """Return the recipe of nested entries; what is not named has its default.

    Raises:
        ValueError: an unknown entry, or a value that makes no sense; the message names it.
    """
    recipe: Recipe = read(Recipe, entries, "")
    return recipe


def recipe_of(*layers: str | Path | Mapping[str, Any]) -> Recipe:
    """Return the recipe of presets, recipes and files by name, and of entries; later ones win.

    Raises:
        ValueError: something unknown, or a value that makes no sense; the message names it.

    Example:
        >>> recipe_of("digits", "vanilla", {"training": {"epochs": 2}}).training.epochs
        2
    """
    return from_dict(merged(*(each if isinstance(each, Mapping) else layer(each) for each in layers)))


def changed(recipe: Recipe, *layers: str | Mapping[str, Any]) -> Recipe:
    """Return a recipe with presets or entries laid over it.

    Raises:
        ValueError: something unknown, or a value that makes no sense; the message names it.

    Example:
        >>> changed(recipe_of("digits"), "vanilla", {"training": {"epochs": 1}}).method.branches is None
        True
    """
    return recipe_of(recipe.to_dict(), *layers)


def read_recipe(path: Path) -> Recipe:
    """Read a recipe from a YAML file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no YAML or no recipe; the message names the entry.
    """
    try:
        return from_dict(read_file(path))
    except RecursionError:
        raise ValueError(f"{path} is not a recipe: it is nested too deep") from None
    except ValueError as error:
        text = str(error)
        raise ValueError(text if text.startswith(str(path)) else f"{path} is not a recipe: {text}") from None


def write_recipe(recipe: Recipe, path: Path) -> None:
    """Write a recipe, whole or not at all."""
    write_text(path, as_yaml(recipe.to_dict()))
