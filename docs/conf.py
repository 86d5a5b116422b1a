"""How the documentation is built: ``make docs``."""

import inspect
import re
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from shortcut_snn import __version__
from shortcut_snn.cli.components import kinds
from shortcut_snn.components import Kind, options
from shortcut_snn.deploy import TRAINED, card, names

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
    """Return a docstring's text as it stands in a Markdown table."""
    text = re.sub(r":\w+:`[~.]*([^`]+)`", r"``\1``", " ".join(str(text).split()))
    text = re.sub(r"`([^`<]+) <[^>]+>`_", r"\1", text).rstrip(":")
    return text.replace("|", r"\|")


def tables(kind: Kind) -> Iterator[str]:
    """Yield the lines of a kind's tables: its components, and what their options mean."""
    yield "| `kind` | what it is | options and defaults |\n|---|---|---|"
    meanings: dict[tuple[str, str, str], list[str]] = {}
    for name in kind:
        settings = kind[name]
        own = options(settings)
        first = (inspect.getdoc(settings) or "").split("\n\n")[0]
        said = ", ".join(f"`{each.name}={each.default}`" for each in own)
        yield f"| `{name}` | {cell(first)} | {cell(said)} |"
        # Those of torch and Lightning are described there.
        if getattr(settings, "factory", settings).__module__.startswith("shortcut_snn"):
            for each in own:
                meanings.setdefault((each.name, each.hint, each.help), []).append(name)
    if meanings:
        yield "\n| option | type | meaning |\n|---|---|---|"
    for (option, hint, text), owners in meanings.items():
        whose = "" if len(owners) == len(list(kind)) else f" (of {', '.join(owners)})"
        yield f"| `{option}`{whose} | {cell(hint)} | {cell(text)} |"


class Components(SphinxDirective):
    """``components``: a section for each kind of component, made from what is registered."""

    def run(self) -> list[nodes.Node]:
        """Return the sections."""
        sections: list[nodes.Node] = []
        for kind in kinds().values():
            section = nodes.section(ids=[nodes.make_id(f"components-{kind.name}")])
            section += nodes.title(text=kind.name.capitalize())
            self.state.nested_parse(StringList("\n".join(tables(kind)).splitlines()), 0, section)
            sections.append(section)
        return sections


class Trained(SphinxDirective):
    """``trained``: a table of the networks that come with the package, made from their cards."""

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        lines = [
            "| name | data | test accuracy | test samples "
            "| energy, nJ | with ReLUs | with memory | quantised | licence of the data |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for name in names(TRAINED):
            said = card(name, TRAINED)
            energy = [f"{value / 1000:,.0f}" for value in (said.energy or {}).values()] or ["-"] * 4
            lines.append(
                f"| `{name}` | {said.data['name']} | {100 * said.accuracy['test']:.2f} % | "
                f"{said.data['samples']['test']:,} | {' | '.join(energy)} | {said.data['licence']} |"
            )
        node = nodes.container()
        self.state.nested_parse(StringList(lines), 0, node)
        return [node]


def inline_math(translator: Any, node: nodes.math) -> None:
    """Write a formula in a line as MathML, which browsers draw by themselves: no script, no network."""
    translator.body.append(convert(node.astext()))
    raise nodes.SkipNode


def display_math(translator: Any, node: nodes.math_block) -> None:
    """Write a formula on a line of its own."""
    translator.body.append(f"<div>{convert(node.astext(), display='block')}</div>")
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Add what is ours."""
    app.add_directive("components", Components)
    app.add_directive("trained", Trained)
    app.add_html_math_renderer("mathml", (inline_math, None), (display_math, None))
