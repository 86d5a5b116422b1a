"""``shortcut-snn compare``: presets over seeds, each run resumable, one table at the end."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...files import read_json
from ...recipes.entries import merged, said
from ...training import Metric, column_title, markdown_table
from .._launchers import add_launcher, launching
from .._output import tell
from .._parser import UsageError
from .figures import FIGURES, comparison_table, summarise
from .planning import METHODS, Plan, Variant, held_out, judged_otherwise, plan, tried, without_method
from .running import RunsFailed, compare

__all__ = [
    "FIGURES",
    "METHODS",
    "Plan",
    "RunsFailed",
    "Variant",
    "compare",
    "comparison_table",
    "held_out",
    "judged_otherwise",
    "plan",
    "summarise",
]

HELP = "compare methods over seeds"
DESCRIPTION = (
    "Train several methods over several seeds and compare them. Finished runs are skipped and interrupted ones go on "
    "when the same command is given again."
)
RECIPE = True


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--out", required=True, help="folder of the comparison; created")
    parser.add_argument(
        "--methods", nargs="+", default=list(METHODS), metavar="PRESET",
        help="what to compare, presets or files, the first is what the others are set against; each may carry entries: "
        "--methods vanilla 'evolutionary method.branches.taps=blocks'",
    )  # fmt: skip
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds, from training.seed on")
    parser.add_argument(
        "--grid", action="append", default=[], metavar="KEY=A,B",
        help="an entry of the recipe to vary too, as in optimizer.lr=0.003,0.01; may be given several times",
    )  # fmt: skip
    parser.add_argument(
        "--tune", action="append", default=[], metavar="KEY=A,B",
        help="an entry of which each method first gets its own best, by validation data, as in "
        "optimizer.lr=0.03,0.1,0.3; may be given several times",
    )  # fmt: skip
    parser.add_argument("--tune-epochs", type=int, default=None, help="how long the runs that tune are; one seed each")
    add_launcher(parser)


def run(options: argparse.Namespace) -> int:
    """Compare and print the table, of what has finished if not all has."""
    try:
        # The presets that a file names are one of the methods that are compared, not what these share.
        shared = merged(*map(without_method, options.layers), said(options.entries))
        made = plan(
            shared,
            options.methods,
            options.seeds,
            options.grid,
            options.imports,
            options.tune,
            options.tune_epochs,
        )
        judged = {repr((v.recipe.data, v.recipe.task)): tried(v.recipe, v.tries[0]) for v in made.variants if v.tries}
        for recipe in judged.values():
            held_out(recipe)
    except ValueError as error:
        raise UsageError(str(error)) from None
    try:
        with launching(options, options.out) as launcher:
            rows = compare(made, options.out, options.jobs, tell, launcher=launcher, imported=options.imported)
    except RunsFailed as error:
        _tell(error.rows, made, Path(options.out))
        raise
    _tell(rows, made, Path(options.out))
    return 0


def _tell(rows: Sequence[Mapping[str, Any]], plan: Plan, folder: Path) -> None:
    if not rows:
        return
    baseline, about = plan.variants[0].label, read_json(folder / "comparison.json")
    columns, cells = comparison_table(rows, Metric.of(about), baseline, about.get("tuned"))
    # In a terminal's width: what else there is, is in the files.
    kept = [place for place, name in enumerate(columns) if name not in ("best epoch", *map(column_title, FIGURES))]
    short = {columns[kept[-3]]: Metric.of(about).label(), columns[kept[-2]]: "difference"}
    lines = [[line[place] for place in kept] for line in (columns, *cells)]
    tell("\n" + markdown_table([short.get(name, name) for name in lines[0]], lines[1:]))
    tell(f"\nmeans over seeds after the last epoch with 95 % intervals; differences from {baseline} with the same seed")
    if rows[0]["variant"] != baseline:
        tell(f"\nno run of {baseline} has finished: there is nothing to set the others against")
    tell(f"\nwritten: comparison.csv, comparison.md, comparison.png and runs.csv in {folder}")
