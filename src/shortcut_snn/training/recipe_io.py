"""Recipes from files and from overrides, every entry checked against its type."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace

from ..files import write_text
from .recipe import Recipe


def from_namespace(parsed: Any, check: bool = True) -> Recipe:
    """Return the recipe that a parser with a recipe's arguments has read.

    Args:
        parsed: what the parser returned, instantiated.
        check: whether entries that make no sense, alone or together, are refused.
    """
    recipe = Recipe(**{field.name: parsed[field.name] for field in dataclasses.fields(Recipe)})
    if check:
        recipe.check()
    return recipe


def check_groups(entries: Mapping[Any, Any], config: Any = Recipe, prefix: str = "") -> None:
    """Refuse what stands in place of a group of entries, which the parser passes over.

    Raises:
        ValueError: naming the group.
    """
    for field in dataclasses.fields(config):
        if field.name not in entries or not dataclasses.is_dataclass(field.type):
            continue
        value, name = entries[field.name], f"{prefix}{field.name}"
        if not isinstance(value, Mapping):
            raise ValueError(f"{name} is a group of entries, as in '{name}: {{...}}', got {value!r}")
        if "class_path" in value or "init_args" in value:
            raise ValueError(f"{name} holds entries alone: a recipe names no classes")
        check_groups(value, field.type, f"{name}.")


def from_dict(entries: Mapping[str, Any]) -> Recipe:
    """Return the recipe of nested entries; what is not named has its default.

    Raises:
        ValueError: an unknown entry or a wrong type; the message names it.
    """
    check_groups(entries)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Recipe)
    try:
        parsed: Namespace = parser.instantiate(parser.parse_object(dict(entries)))
    except (ArgumentError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(" ".join(str(error).split())) from None
    return from_namespace(parsed)


def changed(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """Return a recipe with some entries changed, each named by its dotted key.

    Raises:
        ValueError: an unknown entry or a value of a wrong type.
    """
    entries = recipe.to_dict()
    for key, value in changes.items():
        inner = entries
        *path, last = key.split(".")
        for part in path:
            inner = inner.get(part, {}) if isinstance(inner, dict) else {}
        if last not in inner:
            raise ValueError(f"a recipe has no entry {key!r}")
        inner[last] = value
    return from_dict(entries)


def read(path: Path) -> Recipe:
    """Read a recipe from a YAML file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no YAML or no recipe; the message names the entry.
    """
    entries = read_entries(path)
    try:
        return from_dict(entries)
    except ValueError as error:
        raise ValueError(f"{path} is not a recipe: {error}") from None


def read_entries(path: Path) -> dict[Any, Any]:
    """Read a YAML file of entries, its groups checked.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no YAML, or not of entries.
    """
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    # A deep enough file exhausts the parser's stack; a date that there is not is a ValueError.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(entries, dict):
        raise ValueError(f"{path} is not a recipe: expected entries like 'train: ...'")
    try:
        check_groups(entries)
    except ValueError as error:
        raise ValueError(f"{path} is not a recipe: {error}") from None
    return entries


def value(text: str) -> Any:
    """Return what an entry's text means.

    Raises:
        ValueError: it is no YAML.
    """
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise ValueError(f"{text!r} is no value of an entry (it is not YAML)") from None


def write(recipe: Recipe, path: Path) -> None:
    """Write a recipe, whole or not at all."""
    write_text(path, yaml.safe_dump(recipe.to_dict(), sort_keys=False))
