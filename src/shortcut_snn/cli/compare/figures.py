"""What came of a comparison: its files and its table."""

import json
import math
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from ...diagnosis import plots
from ...diagnosis.statistics import geometric_mean, mean_interval
from ...files import write_csv, write_text
from ...training import COLUMN_TITLES, Metric, RunFolder, column_title, flatten_entries, format_value, markdown_table
from .planning import Plan

RATIOS = ("gradient_ratio_first_epoch", "gradient_ratio_last_epoch")
COSTS = ("seconds_per_epoch", "seconds_per_step", "peak_bytes_per_step")
FIGURES = (*RATIOS, *COSTS)


def summarise(
    plan: Plan,
    folder: str | Path,
    leave_out: Container[Path] = (),
    tuned: Mapping[str, Mapping[str, str]] | None = None,
) -> list[dict[str, Any]]:
    """Read the finished runs but those to leave out, write the comparison's files and return the table's rows."""
    folder = Path(folder)
    runs: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for variant in plan.variants:
        places = {seed: RunFolder(folder / variant.folder / f"seed{seed}") for seed in plan.seeds}
        found[variant.label] = {
            seed: place.read_result()
            for seed, place in places.items()
            if place.path not in leave_out and place.is_finished
        }
        runs += [
            {"variant": variant.label, "folder": variant.folder, "seed": seed} | dict(flatten_entries(result))
            for seed, result in found[variant.label].items()
        ]
    if not runs:
        return rows
    baseline = plan.variants[0].label
    first = next(result for results in found.values() for result in results.values())
    metric = Metric.of(first)
    against = {seed: metric.value_of(result, "last") for seed, result in found[baseline].items()}
    for label, results in found.items():
        if results:
            rows.append({"variant": label, "n": len(results)} | _figures(results, against, metric))
    about = {key: first[key] for key in ("metric", "higher_is_better", "fraction")} | {"baseline": baseline}
    tuned = {label: dict(values) for label, values in (tuned or {}).items() if values}
    about |= {"tuned": tuned} if tuned else {}
    write_csv(folder / "runs.csv", runs)
    write_csv(folder / "comparison.csv", rows)
    write_text(folder / "comparison.json", json.dumps(about, indent=2) + "\n")
    write_text(folder / "comparison.md", markdown_table(*comparison_table(rows, metric, baseline, tuned)) + "\n")
    plots.comparison(
        [row["variant"] for row in rows],
        [[metric.value_of(result, "last") for result in found[row["variant"]].values()] for row in rows],
        [row["last_interval"] for row in rows],
        folder / "comparison.png",
        metric.label(),
        None if first["chance"] is None else metric.scale * first["chance"],
    )
    return rows


def _figures(results: Mapping[int, dict[str, Any]], against: Mapping[int, float], metric: Metric) -> dict[str, Any]:
    last = {seed: metric.value_of(result, "last") for seed, result in results.items()}
    columns = {
        "last": list(last.values()),
        "best": [metric.value_of(result, "best") for result in results.values()],
        "difference": [value - against[seed] for seed, value in last.items() if seed in against],
    }
    figures: dict[str, Any] = {}
    for name, values in columns.items():
        figures[name], figures[f"{name}_interval"] = mean_interval(values) if values else (math.nan, math.nan)
    for name in RATIOS:
        known = [result[name] for result in results.values() if result[name] is not None]
        figures[name] = 0.0 if 0 in known else geometric_mean(known)
    for name in COSTS:
        known = [result[name] for result in results.values() if result.get(name) is not None]
        figures[name] = median(known) if known else math.nan
    return figures


def comparison_table(
    rows: Sequence[Mapping[str, Any]],
    metric: Metric,
    baseline: str,
    tuned: Mapping[str, Mapping[str, str]] | None = None,
) -> tuple[list[str], list[list[str]]]:
    """Return columns and cells of a comparison, as a person reads it.

    Args:
        rows: of ``comparison.csv``, numbers as numbers.
        metric: what is compared.
        baseline: the method that the others are set against.
        tuned: of each method, what it trained with of what was tuned, by key.
    """
    against, tuned = f"against {baseline}, same seed", tuned or {}
    keys = list(dict.fromkeys(key for values in tuned.values() for key in values))
    columns = [
        "method",
        *keys,
        "runs",
        metric.label("{}, last epoch"),
        "best epoch",
        against,
        "",
        *map(column_title, FIGURES),
    ]
    cells = []
    for row in rows:
        last, best, difference = ((row[name], row[f"{name}_interval"]) for name in ("last", "best", "difference"))
        set_against = (metric.format_interval(*difference, "+"), metric.describe_difference(*difference))
        cells.append(
            [
                row["variant"],
                *(tuned.get(row["variant"], {}).get(key, "-") for key in keys),
                format_value(row["n"]),
                metric.format_interval(*last),
                metric.format_interval(*best),
                *(("-", "baseline") if row["variant"] == baseline else set_against),
                *(format_value(float(f"{row[name] * COLUMN_TITLES[name][1]:.3g}")) for name in FIGURES),
            ]
        )
    return columns, cells
