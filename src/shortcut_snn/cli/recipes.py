"""``shortcut-snn recipes``: the built-in recipes: what each trains, what the paper reports, what was measured."""

import argparse
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from ..recipes.entries import built_in, layer
from ..recipes.presets import PAPER, PRESETS
from ..training import markdown_table
from ..yaml_text import parse

HELP = "list the built-in recipes and presets"
DESCRIPTION = "List the built-in recipes and presets."
COLUMNS = ["recipe", "data", "network", "T", "paper: vanilla / shortcut / evolutionary", "ours"]
NOTE = f"""Test accuracy in per cent, - or blank where it is not known (paper) or was not measured (ours).
Start one with: shortcut-snn train --config RECIPE --data.root FOLDER --out runs/RECIPE
Presets are laid over a recipe, as in --config RECIPE --preset vanilla: {", ".join(PRESETS)}.
shortcut-snn components lists everything that a recipe can name."""


def figures(whose: str) -> dict[str, dict[str, Any]]:
    """Return accuracies by recipe and method, ``"paper"``'s or ``"ours"``."""
    folder = Path(str(resources.files("shortcut_snn.recipes"))) / "figures"
    found: dict[str, dict[str, Any]] = parse((folder / f"{whose}.yaml").read_text("utf-8"))
    return found


def recipe_table() -> str:
    """Return the table of the built-in recipes."""
    paper, ours = figures("paper"), figures("ours")
    rows = []
    for name in built_in():
        entries = layer(name)
        data, network = entries["data"], entries["network"]
        rows.append(
            [
                name,
                # A folder is told by what it holds.
                Path(data["root"]).name if data["kind"] == "folder" else data["kind"],
                network["kind"] + (f", width {network['width']}" if "width" in network else ""),
                str(network["time_steps"]),
                _accuracies(paper.get(name, {})),
                _accuracies(ours.get(name, {})),
            ]
        )
    return markdown_table(COLUMNS, rows)


def _accuracies(entry: Mapping[str, Any]) -> str:
    if not any(method in entry for method in PAPER):
        return ""
    return " / ".join(f"{entry[method]:.2f}" if method in entry else "-" for method in PAPER)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options: none."""


def run(options: argparse.Namespace) -> int:
    """Print."""
    print(f"{recipe_table()}\n\n{NOTE}")
    return 0
