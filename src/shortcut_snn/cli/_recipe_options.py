"""Parse commands that take a recipe or the folder of a run. Each entry of a recipe is an option by its key."""

import argparse
import textwrap
from collections.abc import Iterator
from typing import Any, NoReturn

from ..components.registry import suggestion
from ._commands import SECTIONS
from ._terminal import Parser, UsageError, loading, usage_errors


def parse_with_recipe(parser: Parser, command: argparse.ArgumentParser, words: list[str]) -> argparse.Namespace | None:
    """Parse the words of a command that takes a recipe; return None if the recipe or its help was printed.

    The options get ``recipe`` (that of ``--run`` with changes, if there is one), ``entries`` (those of its options, as
    KEY=VALUE) and ``imported``.
    """
    words, entries = _split_entries(words)
    if {"--print-recipe", "--help-recipe"} & {word.partition("=")[0] for word in words}:
        # Options of the command itself, such as --out, are not needed to print a recipe.
        for action in command._actions:
            action.required = False
    options, unknown = parser.parse_known_args(words)
    # From here on help is printed, and the rest may take its time.
    with loading():
        from .._utils.yaml_text import as_yaml
        from ..recipes import import_components, parse_options
        from ..recipes.entries import from_dict, merged_layers
        from ..recipes.imports import missing_imports
        from ..training import RunFolder

    if unknown:
        _refuse(unknown)
    options.entries = entries
    run = getattr(options, "run", None)
    try:
        options.imported = import_components(options.imports)
        start = getattr(options, "start_from", None)
        start_entries = {"training": {"start_from": start}} if start else {}
        overrides = merged_layers(*options.layers, parse_options(entries), start_entries)
        if run is None:
            options.recipe = from_dict(overrides)
    except ValueError as error:
        resumed = RunFolder(options.out).imports() if options.out and getattr(options, "resume", False) else ()
        raise UsageError(f"{error}{missing_imports(resumed)}") from error
    if run is not None:
        options.recipe = _changed_recipe(run, overrides)
    if not (options.print_recipe or options.help_recipe):
        return options
    recipe = options.recipe
    print(describe_section(recipe, options.help_recipe) if options.help_recipe else as_yaml(recipe.to_dict()).rstrip())
    return None


def parse_with_run(parser: Parser, words: list[str]) -> argparse.Namespace:
    """Parse the words of a command that takes the folder of a run. The options get ``changes`` to the run's recipe."""
    options = parser.parse_args(words)
    with loading():
        from ..recipes import import_components, parse_options

    with usage_errors():
        import_components(options.imports)
        options.changes = parse_options(options.set)
    if options.changes:
        _changed_recipe(options.run, options.changes)
    return options


def _changed_recipe(run: str, changes: dict[str, Any]) -> Any:
    """Return the recipe of a run with changes. Only an error in the changes is one of the arguments."""
    from ..recipes import changed
    from ..recipes.runs import run_recipe
    from ..training import RunFolder

    recipe = run_recipe(RunFolder(run))
    with usage_errors():
        return changed(recipe, changes)


def _split_entries(words: list[str]) -> tuple[list[str], list[str]]:
    """Return the words that are not entries of a recipe, and the entries as KEY=VALUE."""
    own_words: list[str] = []
    entries: list[str] = []
    remaining = iter(words)
    for word in remaining:
        if word == "--":
            return [*own_words, word, *remaining], entries
        key, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or key.split(".")[0] not in SECTIONS:
            own_words.append(word)
            continue
        if not equals:
            value = next(remaining, "--")
            if value.startswith("--"):
                raise UsageError(f"--{key} needs a value, as in --{key} VALUE")
        if key == "method":
            raise UsageError(f"--method is not an option: a method is a preset, as in --preset {value}")
        entries.append(f"{key}={value}")
    return own_words, entries


def _refuse(words: list[str]) -> NoReturn:
    """Refuse unknown options, and suggest entries of the recipe with a similar key."""
    from ..recipes import Recipe

    word = next((word for word in words if word != "--"), words[0]).partition("=")[0]
    if not word.startswith("--"):
        raise UsageError(f"unexpected argument {word!r}: entries of the recipe are written --KEY VALUE")
    keys = [f"--{key}" for key, *_ in recipe_entries(Recipe, Recipe())]
    same_name = [key for key in keys if key.rpartition(".")[2] == word.removeprefix("--")]
    hint = f" (did you mean {' or '.join(same_name)}?)" if same_name else suggestion(word, keys)
    raise UsageError(f"no option {word}{hint}")


def describe_section(recipe: Any, section: str) -> str:
    """Return the entries of a section of a recipe with their types, values and descriptions."""
    lines = []
    for key, annotation, text, value in recipe_entries(type(recipe), recipe):
        if key.partition(".")[0] == section:
            lines.append(f"--{key} {'null' if value is None else value}" + (f" ({annotation})" if annotation else ""))
            lines += textwrap.wrap(text, 108, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(lines)


def recipe_entries(owner: Any, values: Any, prefix: str = "") -> Iterator[tuple[str, str, str, Any]]:
    """Yield key, type, description and value of the options of a component or a group, and of those that it holds."""
    from ..components import Kind, component_of
    from ..components.entries import fields_of, slot
    from ..components.help import option_help, type_text
    from ..components.registry import Component

    texts = option_help(owner)
    for name, option in (owner.options if isinstance(owner, Component) else fields_of(owner)).items():
        key, value, inner = prefix + name, getattr(values, name), slot(option.annotation)
        if inner is None or inner.many or value is None:
            yield key, type_text(option.annotation), texts[name], value
        elif isinstance(inner.content, Kind):
            component = component_of(value)
            yield f"{key}.kind", "", f"{texts[name]} One of: {', '.join(inner.content)}.", component.name
            yield from recipe_entries(component, value, f"{key}.")
        else:
            yield from recipe_entries(inner.content, value, f"{key}.")
