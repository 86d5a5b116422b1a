"""``shortcut-snn compare``: train several methods over several seeds and tabulate them."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...files import read_json
from ...recipes import merged, parse_options
from ...training import Metric
from .._launchers import launching
from .._output import print_line
from .._parser import UsageError
from .planning import (
    METHODS,
    Plan,
    Variant,
    differing_fixed_entry,
    plan,
    validation_metric,
    with_candidate,
    without_method,
)
from .running import RunsFailed, changed_imports, compare
from .summary import FIGURES, comparison_table, terminal_table

__all__ = [
    "FIGURES",
    "METHODS",
    "Plan",
    "RunsFailed",
    "Variant",
    "changed_imports",
    "compare",
    "comparison_table",
    "differing_fixed_entry",
    "plan",
    "validation_metric",
    "without_method",
]


def run(options: argparse.Namespace) -> int:
    """Compare, and print the table of all finished runs."""
    try:
        made = _plan(options)
    except ValueError as error:
        raise UsageError(str(error)) from None
    rows: Sequence[Mapping[str, Any]] = []
    try:
        with launching(options, options.out) as launcher:
            rows = compare(made, options.out, options.jobs, print_line, launcher=launcher, imported=options.imported)
    except RunsFailed as error:
        rows = error.rows
        raise
    finally:
        if rows:
            _print_table(rows, made, Path(options.out))
    return 0


def _plan(options: argparse.Namespace) -> Plan:
    """Return the plan of a command line, checked before anything is trained."""
    # A method in the shared recipe would make all compared methods the same.
    shared = merged(*map(without_method, options.layers), parse_options(options.entries))
    made = plan(
        shared, options.methods, options.seeds, options.grid, options.imports, options.tune, options.tune_epochs
    )
    tuned = [variant for variant in made.variants if variant.candidates]
    if tuned:
        validation_metric(with_candidate(tuned[0].recipe, tuned[0].candidates[0]))
    return made


def _print_table(rows: Sequence[Mapping[str, Any]], plan: Plan, folder: Path) -> None:
    baseline, description = plan.variants[0].label, read_json(folder / "comparison.json")
    metric = Metric.of(description)
    columns, cells = comparison_table(rows, metric, baseline, description.get("tuned", {}))
    print_line("\n" + terminal_table(columns, cells, metric))
    print_line(
        f"\nmeans over seeds after the last epoch with 95 % intervals; differences from {baseline} with the same seed"
    )
    if rows[0]["variant"] != baseline:
        print_line(f"\nthe baseline {baseline} has no finished run, so the table has no differences")
    print_line(f"\nwritten: comparison.csv, comparison.md, comparison.png and runs.csv in {folder}")
