"""The built-in recipes as a table: what each trains on what, what the paper reports, what was measured here."""

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, get_args

import yaml

from .methods import PaperMethod
from .report import table

FOLDER = Path(str(resources.files("shortcut_snn") / "recipes"))
COLUMNS = ["recipe", "data", "network", "T", "paper: vanilla / shortcut / evolutionary", "ours"]
NOTE = """Test accuracy in per cent, - or blank where it is not known (paper) or was not measured (ours).
Start one with: shortcut-snn train --config RECIPE --data.root FOLDER --out runs/RECIPE
These are the paper's methods; a control is the same with --method.name vanilla or shortcut, what we recommend the same
with calibrated, and shortcut-snn compare runs all four."""


def figures(whose: str) -> dict[str, dict[str, Any]]:
    """Return accuracies by recipe and method, ``"paper"``'s or ``"ours"``."""
    found: dict[str, dict[str, Any]] = yaml.safe_load((FOLDER / "figures" / f"{whose}.yaml").read_text("utf-8"))
    return found


def recipe_table(recipes: Mapping[str, Path]) -> str:
    """Return the table of recipes, by name."""
    paper, ours = figures("paper"), figures("ours")
    rows = []
    for name, path in recipes.items():
        entries = yaml.safe_load(path.read_text("utf-8"))
        data, network = entries["data"], entries["network"]
        rows.append(
            [
                name,
                # A folder is told by what it holds.
                Path(data["root"]).name if data["name"] == "folder" else data["name"],
                network["name"] + (f", width {network['width']}" if "width" in network else ""),
                str(network["time_steps"]),
                _accuracies(paper.get(name, {})),
                _accuracies(ours.get(name, {})),
            ]
        )
    return table(COLUMNS, rows)


def _accuracies(entry: Mapping[str, Any]) -> str:
    if not any(method in entry for method in get_args(PaperMethod)):
        return ""
    return " / ".join(f"{entry[method]:.2f}" if method in entry else "-" for method in get_args(PaperMethod))
