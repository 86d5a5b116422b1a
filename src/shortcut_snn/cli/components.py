"""``shortcut-snn components``: list the components that a recipe can name, with their options."""

import argparse

from .._utils.markdown import markdown_table
from ..components.help import first_sentence
from ..components.registry import KINDS, suggestion
from ..recipes import import_components
from ._terminal import UsageError, usage_errors


def run(options: argparse.Namespace) -> int:
    """Print the components of a kind, or of all kinds."""
    with usage_errors():
        import_components(options.imports)
    if options.kind is not None and options.kind not in KINDS:
        raise UsageError(f"no kind {options.kind!r}{suggestion(options.kind, KINDS)}: use one of {', '.join(KINDS)}")
    kinds = KINDS.values() if options.kind is None else [KINDS[options.kind]]
    tables = []
    for kind in kinds:
        rows = []
        for name, component in kind.components.items():
            defaults = ", ".join(f"{option.name}={option.value}" for option in component.options.values())
            rows.append([name, first_sentence(component), defaults])
        tables.append(markdown_table([kind.name, "description", "options"], rows))
    print("\n\n".join(tables))
    return 0
