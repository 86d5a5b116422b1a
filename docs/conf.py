"""The configuration of Sphinx, for ``make docs``."""

import importlib
import inspect
import re
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from shortcut_snn import __version__
from shortcut_snn.cli._commands import COMMANDS, SHARED_OPTIONS
from shortcut_snn.cli._recipe_options import recipe_entries
from shortcut_snn.cli._terminal import Option, Parser, default_of
from shortcut_snn.components import Kind
from shortcut_snn.components.help import first_sentence, option_help, type_text
from shortcut_snn.components.registry import KINDS
from shortcut_snn.deploy import card, names
from shortcut_snn.energy.report import with_unit
from shortcut_snn.recipes import Recipe, recipe_of

project = "shortcut-snn"
copyright = "the shortcut-snn authors"
release = version = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
myst_enable_extensions = ["dollarmath", "colon_fence"]
# A line of prose may start with "%".
myst_disable_syntax = ["myst_line_comment"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
nitpicky = False

html_theme = "furo"
html_title = f"shortcut-snn {release}"
html_static_path = ["_static"]
html_css_files = ["page.css"]
html_search_scorer = str(Path(__file__).with_name("scorer.js"))
html_math_renderer = "mathml"

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autosummary_generate = False
napoleon_google_docstring = True
napoleon_numpy_docstring = False

copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True
copybutton_line_continuation_character = "\\"

# The side bar: index.md names the pages of each group, this names those below another page.
BELOW = {
    "attach": ["attach-tests"],
    "method": ["gradients"],
    "depth": ["depth-figures", "initialisations"],
    "speed": ["benchmark"],
    "anytime": ["anytime-figures"],
    "evidence": ["evidence-details", "evidence-size", "evidence-events", "protocol", "gradient-signal"],
    "results": ["speedrun"],
    "api": ["api-neurons", "api-nets", "api-data", "api-training", "api-tools"],
}


def cell(text: Any) -> str:
    """Return the text of a docstring as a cell of a Markdown table."""
    text = re.sub(r":\w+:`[~.]*([^`]+)`", r"``\1``", " ".join(str(text).split()))
    text = re.sub(r"`([^`<]+) <[^>]+>`_", r"\1", text).rstrip(":")
    return text.replace("|", r"\|")


def tables(kind: Kind) -> Iterator[str]:
    """Yield the lines of a table of a kind's components, and of a table of their options."""
    yield "| `kind` | description | options and defaults |\n|---|---|---|"
    owners: dict[tuple[str, str, str], list[str]] = {}
    for name, component in kind.components.items():
        defaults = ", ".join(f"`{option.name}={option.value}`" for option in component.options.values())
        yield f"| `{name}` | {cell(first_sentence(component))} | {cell(defaults)} |"
        # PyTorch and Lightning document the options of their own classes.
        if component.definition.__module__.startswith("shortcut_snn"):
            texts = option_help(component)
            for option in component.options.values():
                row = (option.name, type_text(option.annotation), texts[option.name])
                owners.setdefault(row, []).append(name)
    if owners:
        yield "\n| option | type | description |\n|---|---|---|"
    for (option, type_name, text), components in owners.items():
        only = "" if len(components) == len(kind.components) else f" (of {', '.join(components)})"
        yield f"| `{option}`{only} | {cell(type_name)} | {cell(text)} |"


class Generated(SphinxDirective):
    """Base of directives that write Markdown from the code, as sections with a title."""

    def section(self, title: str, lines: Iterable[str]) -> nodes.section:
        """Return a section with the nodes of lines of Markdown, under the anchor ``DIRECTIVE-TITLE``."""
        anchor = nodes.make_id(f"{self.name}-{title}")
        section = nodes.section(ids=[anchor], names=[anchor])
        section += nodes.title(text=title)
        self.state.document.note_explicit_target(section)
        self.state.nested_parse(StringList("\n".join(lines).splitlines()), 0, section)
        return section


class Components(Generated):
    """The directive ``components``: a section for each kind of registered component."""

    def run(self) -> list[nodes.Node]:
        """Return the sections."""
        return [self.section(kind.name.capitalize().replace("_", " "), tables(kind)) for kind in KINDS.values()]


class Entries(Generated):
    """The directive ``entries``: a section for each section of a recipe, with the entries of its default kind."""

    def run(self) -> list[nodes.Node]:
        """Return the sections."""
        recipe = recipe_of({"method": {"branches": {}}, "training": {"progressive_resizing": {}}})
        found = list(recipe_entries(Recipe, recipe))
        # PyTorch documents what its optimizers have, and switches that only its developers need.
        found = [entry for entry in found if entry[2] or entry[3] not in (None, False)]
        sections: list[nodes.Node] = []
        for section in fields(Recipe):
            lines = ["| entry | type | default | meaning |", "|---|---|---|---|"]
            for key, type_name, text, value in found:
                if key.partition(".")[0] == section.name:
                    default = "" if value is None or value == () else f"`{value}`"
                    meaning = text or "see the documentation of `torch.optim`"
                    lines.append(f"| `{key}` | {cell(type_name or 'a name')} | {cell(default)} | {cell(meaning)} |")
            sections.append(self.section(section.name, lines))
        return sections


class Commands(Generated):
    """The directive ``commands``: a section for each command, from the parser that prints its help."""

    def run(self) -> list[nodes.Node]:
        """Return the sections."""
        sections: list[nodes.Node] = []
        for name, command in COMMANDS.items():
            lines = [command.description, ""]
            if command.source:
                lines += [
                    f"It also takes the options [of a {command.source}](#commands-options-of-a-{command.source}).",
                    "",
                ]
            sections.append(self.section(name, [*lines, *self.option_table(command.options)]))
        for source, options in SHARED_OPTIONS.items():
            sections.append(self.section(f"Options of a {source}", self.option_table(options)))
        return sections

    def option_table(self, options: Sequence[Option]) -> Iterator[str]:
        """Yield the lines of a table of options."""
        if options:
            yield "| option | default | meaning |\n|---|---|---|"
        parser = Parser(add_help=False)
        parser.add_options(options)
        formatter = ArgumentParser()._get_formatter()
        for action in parser._actions:
            value = formatter._format_args(action, action.dest.upper()) if action.nargs != 0 else ""
            names = [f"`{f'{option} {value}'.strip()}`" for option in action.option_strings or [""]]
            text = re.sub(r"(--.+)$", r"`\1`", str(action.help))
            required = "required" if action.required else ""
            default = required if (found := default_of(action)) is None else f"`{found}`"
            yield f"| {cell(', '.join(names))} | {default} | {cell(text)} |"


def described(variant: partial[Any]) -> str:
    """Return a class whose first arguments are fixed and whose others have defaults, as a link and its arguments."""
    arguments = [*map(repr, variant.args), *(f"{name}={value!r}" for name, value in variant.keywords.items())]
    return f":class:`{variant.func.__name__}` with ``{', '.join(arguments)}``"  # type: ignore[attr-defined]


class Api(SphinxDirective):
    """The directive ``api``: public names of a package, as a table with their first sentences and then in full.

    Each line of its content is a name, after which a colon and the members to show may follow.
    """

    has_content = True
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the table and the entries."""
        package = self.arguments[0]
        members = {name.strip(): shown.strip() for name, _, shown in (line.partition(":") for line in self.content)}
        things = {name: getattr(importlib.import_module(package), name) for name in members}
        variants = {name: thing for name, thing in things.items() if isinstance(thing, partial)}
        lines = ["```{eval-rst}", f".. currentmodule:: {package}", ""]
        lines += [".. autosummary::", "   :nosignatures:", ""] * (len(variants) < len(members))
        lines += [f"   {name}" for name in members if name not in variants]
        lines += [""]
        for name, shown in members.items():
            if name in variants:
                lines += [f".. data:: {name}", "", f"   A {described(variants[name])}.", ""]
                continue
            lines += [f".. auto{'class' if inspect.isclass(things[name]) else 'function'}:: {name}"]
            lines += [f"   :members: {shown}"] * (bool(shown) and shown != "__call__")
            lines += ["   :special-members: __call__"] * (shown == "__call__")
            lines += [""]
        node = nodes.container()
        self.state.nested_parse(StringList([*lines, "```"]), 0, node)
        return [node]


class Trained(SphinxDirective):
    """The directive ``trained``: a table of the trained networks in the package, from their cards."""

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        lines = [
            "| name | data | test accuracy | test samples "
            "| energy of an input | with ReLUs | with memory | quantised, with memory | licence of the data |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for name in names():
            network = card(name)
            energy = [with_unit(value) for value in (network.energy or {}).values()] or ["-"] * 4
            lines.append(
                f"| `{name}` | {network.data['name']} | {100 * network.accuracy['test']:.2f} % | "
                f"{network.data['samples']['test']:,} | {' | '.join(energy)} | {network.data['licence']} |"
            )
        node = nodes.container()
        self.state.nested_parse(StringList(lines), 0, node)
        return [node]


def inline_math(translator: Any, node: nodes.math) -> None:
    """Write an inline formula as MathML, which browsers render without a script."""
    translator.body.append(convert(node.astext()))
    raise nodes.SkipNode


def display_math(translator: Any, node: nodes.math_block) -> None:
    """Write a displayed formula as MathML."""
    translator.body.append(f"<div>{convert(node.astext(), display='block')}</div>")
    raise nodes.SkipNode


def add_pages_below(_: Sphinx, page: str, source: list[str]) -> None:
    """Add to a page the tree of the pages below it, which no reader of the Markdown needs."""
    if page in BELOW:
        source[0] += "\n".join(["", "```{toctree}", ":hidden:", "", *BELOW[page], "```", ""])


def setup(app: Sphinx) -> None:
    """Register the directives, the side bar's nested pages and the renderer of formulas."""
    app.connect("source-read", add_pages_below)
    app.add_directive("api", Api)
    app.add_directive("commands", Commands)
    app.add_directive("components", Components)
    app.add_directive("entries", Entries)
    app.add_directive("trained", Trained)
    app.add_html_math_renderer("mathml", (inline_math, None), (display_math, None))
