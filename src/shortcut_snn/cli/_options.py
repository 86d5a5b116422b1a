"""A recipe as options: files and presets by name, and every entry by its dotted key."""

import argparse
import textwrap
from typing import Any

from ..components import Component, Kind, component_of, fields_of, option_help, slot, suggestion, type_text
from ..recipes.entries import from_dict, layer, merged, said
from ..recipes.imports import hint, import_components
from ..recipes.presets import PRESETS
from ..recipes.recipe import Recipe, sections
from ..training import RunFolder
from ..yaml_text import as_yaml
from ._parser import Parser, UsageError, add_imports


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """Add what says a recipe to a command's options."""
    parser.add_argument(
        "--config", "--preset", dest="layers", action="append", default=[], metavar="NAME",
        help="a recipe, whole or in part: a built-in one, a preset, or a YAML file; several are laid over each other",
    )  # fmt: skip
    add_imports(parser)
    parser.add_argument("--print-recipe", action="store_true", help="print the complete recipe and do nothing else")


def run_on_run(module: Any, parser: argparse.ArgumentParser, own: argparse.ArgumentParser, given: list[str]) -> int:
    """Run a command that takes a run's folder: with ``run``, ``weights`` and ``changes``, entries that are others now.

    Args:
        module: the command's.
        parser: of the whole command line.
        own: the command's.
        given: the words.

    Raises:
        ValueError: an import or an entry that makes no sense.
    """
    own.add_argument("run", help="folder of a run")
    own.add_argument("--weights", default="last", choices=["last", "best"], help="after which epoch")
    own.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE",
        help="an entry of the run's recipe that is another now, as in data.root=FOLDER; may be given several times",
    )  # fmt: skip
    add_imports(own)
    options = parser.parse_args(given)
    import_components(options.imports)
    options.changes = said(options.set)
    status: int = module.run(options)
    return status


def run(module: Any, parser: argparse.ArgumentParser, own: argparse.ArgumentParser, given: list[str]) -> int:
    """Run a command that takes a recipe.

    Args:
        module: the command's.
        parser: of the whole command line.
        own: the command's.
        given: the words.

    Raises:
        UsageError: what was said makes no sense; the message names it.
    """
    add_recipe(own)
    words, entries = split(given)
    wants_help = bool({"-h", "--help"} & set(words[: words.index("--")] if "--" in words else words))
    if wants_help:
        options, unknown = _named(words), list[str]()
    else:
        if "--print-recipe" in words:
            # What the command would do with it need not be said.
            for action in own._actions:
                action.required = False
        options, unknown = parser.parse_known_args(words)
    if unknown:
        refuse_unknown(unknown)
    try:
        options.imported = import_components(options.imports)
        options.entries = entries
        options.said = merged(*map(layer, options.layers), said(entries))
        # Of a run's network, the run says the rest.
        options.recipe = None if getattr(options, "run", None) else from_dict(options.said)
    except ValueError as error:
        raise UsageError(f"{error}{_missing(options)}") from None
    if wants_help:
        own.print_help()
        print(f"\n{recipe_help(options.recipe)}")
        return 0
    if options.print_recipe and options.recipe is None:
        from ..recipes.build import run_recipe

        options.recipe = run_recipe(RunFolder(options.run), options.said)
    if options.print_recipe and options.recipe is not None:
        print(as_yaml(options.recipe.to_dict()), end="")
        return 0
    status: int = module.run(options)
    return status


def _missing(options: argparse.Namespace) -> str:
    """What the run that is gone on with imported, and this command has not."""
    folder = RunFolder(getattr(options, "out", ""))
    return hint(folder.imports()) if getattr(options, "resume", False) else ""


def _named(words: list[str]) -> argparse.Namespace:
    """What says a recipe among the words of a command line that may be incomplete, as one that asks for help is."""
    alone = Parser(add_help=False, allow_abbrev=False)
    add_recipe(alone)
    return alone.parse_known_args(words)[0]


def split(given: list[str]) -> tuple[list[str], list[str]]:
    """Take the entries of a recipe out of the words of a command.

    Returns:
        The other words, and the entries as KEY=VALUE.

    Raises:
        UsageError: an entry without a value.
    """
    known = sections()
    rest: list[str] = []
    entries: list[str] = []
    words = iter(given)
    for word in words:
        if word == "--":
            return [*rest, word, *words], entries
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or name.split(".")[0] not in known:
            rest.append(word)
            continue
        if not equals:
            value = next(words, "--")
            if value.startswith("--"):
                raise UsageError(f"--{name} needs a value, as in --{name} VALUE")
        if name == "method" and value in PRESETS:
            raise UsageError(f"a method by its name is a preset: --preset {value}; what it is made of is --method.KEY")
        entries.append(f"{name}={value}")
    return rest, entries


def refuse_unknown(words: list[str]) -> None:
    """Say what an unknown option may have been meant to be.

    Raises:
        UsageError: always.
    """
    known = [f"--{key}" for key, *_ in entries_of(Recipe())]
    words = [word for word in words if word != "--"] or words
    word = words[0].partition("=")[0]
    if not word.startswith("--"):
        raise UsageError(f"no argument {word!r} is expected here: entries of the recipe are written --KEY VALUE")
    last = [key for key in known if key.rpartition(".")[2] == word.removeprefix("--")]
    meant = f" (did you mean {' or '.join(last)}?)" if last else suggestion(word, known)
    raise UsageError(f"no option {word}{meant}")


def entries_of(recipe: Recipe) -> list[tuple[str, str, str, Any]]:
    """Return key, type, description and value of each entry of a recipe."""
    entries: list[tuple[str, str, str, Any]] = []

    def walk(owner: Any, settings: Any, prefix: str) -> None:
        texts = option_help(owner)
        options = owner.options if isinstance(owner, Component) else fields_of(owner)
        for name, option in options.items():
            value, inner, key = getattr(settings, name), slot(option.annotation), f"{prefix}{name}"
            if inner is None or inner.many or value is None:
                entries.append((key, type_text(option.annotation), texts[name], value))
            elif isinstance(inner.content, Kind):
                names = ", ".join(inner.content)
                entries.append((f"{key}.kind", "", f"{texts[name]} One of: {names}.", component_of(value).name))
                walk(component_of(value), value, f"{key}.")
            else:
                walk(inner.content, value, f"{key}.")

    walk(Recipe, recipe, "")
    return entries


def recipe_help(recipe: Recipe) -> str:
    """Return a line for every entry of a recipe, from the docstrings of those who own it."""
    lines = ["entries of the recipe (those of another kind: name it before --help):"]
    for key, kind, text, value in entries_of(recipe):
        shown = "null" if value is None else value
        lines.append(f"  --{key} ({kind}; {shown})" if kind else f"\n  --{key} {shown}")
        lines += textwrap.wrap(text, 112, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return "\n".join(lines)
