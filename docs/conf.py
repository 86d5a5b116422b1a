"""The configuration of Sphinx, for ``make docs``."""

import re
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import shortcut_snn.recipes  # noqa: F401  (registers all components)
from shortcut_snn import __version__
from shortcut_snn.components import KINDS, Kind, first_sentence, option_help, type_text
from shortcut_snn.deploy import card, names

project = "shortcut-snn"
copyright = "the shortcut-snn authors"
release = version = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
nitpicky = False

html_theme = "furo"
html_title = f"shortcut-snn {release}"
html_static_path = ["_static"]
html_css_files = ["page.css"]
html_math_renderer = "mathml"

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_google_docstring = True
napoleon_numpy_docstring = False

copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True
copybutton_line_continuation_character = "\\"


def cell(text: Any) -> str:
    """Return the text of a docstring as a cell of a Markdown table."""
    text = re.sub(r":\w+:`[~.]*([^`]+)`", r"``\1``", " ".join(str(text).split()))
    text = re.sub(r"`([^`<]+) <[^>]+>`_", r"\1", text).rstrip(":")
    return text.replace("|", r"\|")


def tables(kind: Kind) -> Iterator[str]:
    """Yield the lines of a table of a kind's components, and of a table of their options."""
    yield "| `kind` | description | options and defaults |\n|---|---|---|"
    owners: dict[tuple[str, str, str], list[str]] = {}
    for name, component in kind.items():
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
        only = "" if len(components) == len(kind) else f" (of {', '.join(components)})"
        yield f"| `{option}`{only} | {cell(type_name)} | {cell(text)} |"


class Components(SphinxDirective):
    """The directive ``components``: a section for each kind of registered component."""

    def run(self) -> list[nodes.Node]:
        """Return the sections."""
        sections: list[nodes.Node] = []
        for kind in KINDS.values():
            section = nodes.section(ids=[nodes.make_id(f"components-{kind.name}")])
            section += nodes.title(text=kind.name.capitalize().replace("_", " "))
            self.state.nested_parse(StringList("\n".join(tables(kind)).splitlines()), 0, section)
            sections.append(section)
        return sections


class Trained(SphinxDirective):
    """The directive ``trained``: a table of the trained networks in the package, from their cards."""

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        lines = [
            "| name | data | test accuracy | test samples "
            "| energy, nJ | with ReLUs | with memory | quantised | licence of the data |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for name in names():
            network = card(name)
            energy = [f"{value / 1000:,.0f}" for value in (network.energy or {}).values()] or ["-"] * 4
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


def setup(app: Sphinx) -> None:
    """Register the directives and the renderer of formulas."""
    app.add_directive("components", Components)
    app.add_directive("trained", Trained)
    app.add_html_math_renderer("mathml", (inline_math, None), (display_math, None))
