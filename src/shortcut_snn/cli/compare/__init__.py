"""``shortcut-snn compare``: train several methods over several seeds and tabulate them."""

import argparse
from pathlib import Path

from ..._utils.markdown import markdown_table
from ...recipes import parse_options
from ...recipes.entries import merged
from .._terminal import print_line, usage_errors
from .planning import Plan, Variant, plan, without_method
from .running import RunsFailed, compare
from .summary import DESCRIPTION, Comparison

__all__ = ["DESCRIPTION", "Comparison", "Plan", "RunsFailed", "Variant", "compare", "plan", "without_method"]


def run(options: argparse.Namespace) -> int:
    """Compare, and print the table of all finished runs."""
    folder = Path(options.out)
    with usage_errors():
        # A method in the shared recipe would make all compared methods the same.
        shared = merged(*map(without_method, options.layers), parse_options(options.entries))
        made = plan(
            shared, options.methods, options.seeds, options.grid, options.imports, options.tune, options.tune_epochs
        )
    try:
        _print_table(compare(made, folder, options.jobs, print_line, options.imported), folder)
    except RunsFailed as error:
        _print_table(error.comparison, folder)
        raise
    return 0


def _print_table(comparison: Comparison, folder: Path) -> None:
    if not comparison.finished:
        return
    baseline = comparison.baseline
    print_line("\n" + markdown_table(*comparison.table(brief=True)))
    print_line(
        f"\nmeans over seeds after the last epoch with 95 % intervals; differences from {baseline} with the same seed"
    )
    if baseline not in comparison.finished:
        print_line(f"\nthe baseline {baseline} has no finished run, so the table has no differences")
    print_line(f"\nwritten: comparison.csv, comparison.md, comparison.png and runs.csv in {folder}")
