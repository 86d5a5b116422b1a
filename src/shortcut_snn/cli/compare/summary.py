"""Write the tables and the figure of a comparison."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from ... import plots
from ...diagnosis import geometric_mean, mean_interval
from ...files import write_csv, write_text
from ...training import COLUMN_TITLES, Metric, column_title, flatten_entries, format_value, markdown_table
from .planning import Variant

GRADIENT_RATIOS = ("gradient_ratio_first_epoch", "gradient_ratio_last_epoch")
COSTS = ("seconds_per_epoch", "seconds_per_step", "peak_bytes_per_step")
FIGURES = (*GRADIENT_RATIOS, *COSTS)
Results = Mapping[Variant, dict[int, dict[str, Any]]]
"""Results of finished runs, by variant and seed; the first variant is the baseline."""


def summarise(folder: Path, results: Results, tuned: Mapping[str, Mapping[str, str]]) -> list[dict[str, Any]]:
    """Write a comparison's files and return the rows of ``comparison.csv``, one for each variant with a finished run.

    Args:
        folder: takes the files.
        results: of the finished runs.
        tuned: by label, the values that were chosen for each tuned entry.
    """
    baseline = next(iter(results))
    finished = {variant: dict(sorted(runs.items())) for variant, runs in results.items() if runs}
    if not finished:
        return []
    first = next(result for runs in finished.values() for result in runs.values())
    metric = Metric.of(first)
    reached = {
        variant: {seed: metric.value_of(result, "last") for seed, result in runs.items()}
        for variant, runs in finished.items()
    }
    rows: list[dict[str, Any]] = [
        {"variant": variant.label, "n": len(runs)}
        | _metric_columns(runs, reached[variant], reached.get(baseline, {}), metric)
        | _other_columns(list(runs.values()))
        for variant, runs in finished.items()
    ]
    run_rows = [
        {"variant": variant.label, "folder": variant.folder, "seed": seed} | dict(flatten_entries(result))
        for variant, runs in finished.items()
        for seed, result in runs.items()
    ]
    description: dict[str, Any] = {key: first[key] for key in ("metric", "higher_is_better", "fraction")}
    description["baseline"] = baseline.label
    if tuned := {label: dict(values) for label, values in tuned.items() if values}:
        description["tuned"] = tuned
    write_csv(folder / "runs.csv", run_rows)
    write_csv(folder / "comparison.csv", rows)
    write_text(folder / "comparison.json", json.dumps(description, indent=2) + "\n")
    table = markdown_table(*comparison_table(rows, metric, baseline.label, tuned))
    write_text(folder / "comparison.md", table + "\n")
    plots.comparison(
        [variant.label for variant in finished],
        [list(values.values()) for values in reached.values()],
        [row["last_interval"] for row in rows],
        folder / "comparison.png",
        metric.label(),
        None if first["chance"] is None else metric.scale * first["chance"],
    )
    return rows


def _metric_columns(
    runs: Mapping[int, dict[str, Any]], last: Mapping[int, float], baseline: Mapping[int, float], metric: Metric
) -> dict[str, float]:
    """Return means with intervals of the metric, and of its difference from the baseline's run with the same seed."""
    samples = {
        "last": list(last.values()),
        "best": [metric.value_of(result, "best") for result in runs.values()],
        "difference": [value - baseline[seed] for seed, value in last.items() if seed in baseline],
    }
    columns = {}
    for name, values in samples.items():
        columns[name], columns[f"{name}_interval"] = mean_interval(values)
    return columns


def _other_columns(results: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return mean gradient ratios and median costs; NaN for what no run measured."""
    columns = {}
    for name in FIGURES:
        values = [result[name] for result in results if result.get(name) is not None]
        if name in COSTS:
            columns[name] = median(values) if values else math.nan
        else:
            # A gradient that never arrives has a ratio of 0, and a geometric mean cannot include 0.
            columns[name] = 0.0 if 0 in values else geometric_mean(values)
    return columns


def comparison_table(
    rows: Sequence[Mapping[str, Any]], metric: Metric, baseline: str, tuned: Mapping[str, Mapping[str, str]]
) -> tuple[list[str], list[list[str]]]:
    """Return the column names and the cells of a comparison's table.

    Args:
        rows: of ``comparison.csv``, with numbers as floats.
        metric: what is compared.
        baseline: the variant that the differences are from.
        tuned: by label, the values that were chosen for each tuned entry.
    """
    keys = list(dict.fromkeys(key for values in tuned.values() for key in values))
    columns = ["method", *keys, "runs", metric.label("{}, last epoch"), "best epoch"]
    columns += [f"against {baseline}, same seed", "", *(column_title(name) for name in FIGURES)]
    cells = []
    for row in rows:
        values = tuned.get(row["variant"], {})
        last, best, difference = ((row[name], row[f"{name}_interval"]) for name in ("last", "best", "difference"))
        judged = [metric.format_interval(*difference, "+"), metric.describe_difference(*difference)]
        line = [row["variant"], *(values.get(key, "-") for key in keys), format_value(row["n"])]
        line += [metric.format_interval(*last), metric.format_interval(*best)]
        line += ["-", "baseline"] if row["variant"] == baseline else judged
        line += [format_value(float(f"{row[name] * COLUMN_TITLES[name][1]:.3g}")) for name in FIGURES]
        cells.append(line)
    return columns, cells


def terminal_table(columns: Sequence[str], cells: Sequence[Sequence[str]], metric: Metric) -> str:
    """Return a comparison's table without the best epoch and the costs, which fits a terminal."""
    shown = [index for index, name in enumerate(columns[: -len(FIGURES)]) if name != "best epoch"]
    names = [columns[index] for index in shown]
    names[-3:] = [metric.label(), "difference", ""]
    return markdown_table(names, [[line[index] for index in shown] for line in cells])
