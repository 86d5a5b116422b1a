"""``shortcut-snn recipes``: list the built-in recipes, with accuracies of the paper and of this package's runs.

The files are read here as they are, since to import the package of recipes takes seconds.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .._utils.markdown import markdown_table
from .._utils.yaml_text import parse

FOLDER = Path(__file__).parents[1] / "recipes"
PAPER_METHODS = ("vanilla", "shortcut", "evolutionary")
PRESETS = (
    "vanilla", "shortcut", "evolutionary", "loss_sum", "initialised", "initialised_loss_sum", "deep_supervision",
    "distillation", "stages_and_steps", "tet", "sltt", "tdbn", "sew", "ms",
)  # fmt: skip
"""The names of ``recipes.PRESETS``, whose import takes seconds."""
COLUMNS = ["recipe", "data", "network", "T", "paper: vanilla / shortcut / evolutionary", "this library"]
NOTE = """Test accuracy in per cent; - if a method was not reported or not run.
Start one with: shortcut-snn train --config RECIPE --data.root FOLDER --out runs/RECIPE
Lay a preset over a recipe, as in --config RECIPE --preset vanilla: {presets}.
List the components that a recipe can name: shortcut-snn components."""


def run(options: argparse.Namespace) -> int:
    """Print the table of the built-in recipes."""
    paper, ours = accuracies("paper"), accuracies("ours")
    rows = []
    for path in sorted((FOLDER / "built_in").glob("*.yaml")):
        entries = parse(path.read_bytes())
        data, network = entries["data"], entries["network"]
        rows.append(
            [
                path.stem,
                Path(data["root"]).name if data["kind"] == "folder" else data["kind"],
                network["kind"] + (f", width {network['width']}" if "width" in network else ""),
                str(network["time_steps"]),
                _row_of_accuracies(paper.get(path.stem, {})),
                _row_of_accuracies(ours.get(path.stem, {})),
            ]
        )
    print(f"{markdown_table(COLUMNS, rows)}\n\n{NOTE.format(presets=', '.join(PRESETS))}")
    return 0


def accuracies(source: str) -> dict[str, dict[str, Any]]:
    """Return test accuracies by recipe and method, those of the ``"paper"`` or ``"ours"``."""
    table: dict[str, dict[str, Any]] = parse((FOLDER / "figures" / f"{source}.yaml").read_bytes())
    return table


def _row_of_accuracies(entry: Mapping[str, Any]) -> str:
    if not any(method in entry for method in PAPER_METHODS):
        return ""
    return " / ".join(f"{entry[method]:.2f}" if method in entry else "-" for method in PAPER_METHODS)
