"""``shortcut-snn components``: everything that a recipe can name, with its options."""

import argparse

from .. import components
from ..components import Kind, first_sentence
from ..recipes.imports import import_components
from ..training import markdown_table
from ._parser import UsageError, add_imports

HELP = "list what a recipe can name"
DESCRIPTION = "List the components that a recipe can name: networks, neurons, surrogates, objectives, optimizers, ..."


def kinds() -> dict[str, Kind]:
    """Return the kinds of components by the names under which they are registered."""
    return {name: value for name, value in vars(components).items() if isinstance(value, Kind)}


def component_table(kind: Kind) -> str:
    """Return a table of the components of a kind: name, what it is, its options and their defaults."""
    rows = []
    for name, component in kind.items():
        options = ", ".join(f"{option.name}={option.value}" for option in component.options.values())
        rows.append([name, first_sentence(component).replace("|", r"\|"), options])
    return markdown_table([kind.name, "what it is", "options"], rows)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("kind", nargs="?", default=None, help="one kind alone, as network or surrogate")
    add_imports(parser)


def run(given: argparse.Namespace) -> int:
    """Print.

    Raises:
        UsageError: an unknown kind.
    """
    import_components(given.imports)
    known = kinds()
    if given.kind is not None and given.kind not in known:
        raise UsageError(
            f"no kind {given.kind!r}{components.suggestion(given.kind, known)}: use one of {', '.join(known)}"
        )
    chosen = known if given.kind is None else {given.kind: known[given.kind]}
    print("\n\n".join(component_table(kind) for kind in chosen.values()))
    return 0
