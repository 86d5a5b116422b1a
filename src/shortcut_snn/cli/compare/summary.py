"""The results of a comparison, and the tables and the figure made of them."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

from ... import plots
from ..._utils.files import read_json, write_csv, write_text
from ..._utils.markdown import markdown_table
from ..._utils.statistics import geometric_mean, mean_interval
from ...training import RunFolder
from ...training.provenance import flatten_entries
from ...training.tables import COLUMN_TITLES, Metric, column_title, format_value

COSTS = ("seconds_per_epoch", "seconds_per_step", "peak_bytes_per_step")
FIGURES = ("gradient_ratio_first_epoch", "gradient_ratio_last_epoch", *COSTS)
DESCRIPTION = "comparison.json"


@dataclass(frozen=True)
class Comparison:
    """The results of finished runs, by variant and seed.

    Args:
        folders: by label of a variant, the folder of its runs in that of the comparison; the first is the baseline.
        results: by label and seed, the content of ``result.json``.
        tuned: by label, the values that were chosen for each tuned entry.
    """

    folders: Mapping[str, str]
    results: Mapping[str, Mapping[int, Mapping[str, Any]]]
    tuned: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> "Comparison":
        """Read the results of the runs in the folder of a comparison."""
        description = read_json(folder / DESCRIPTION)
        variants = description.get("variants")
        if not isinstance(variants, dict):
            raise ValueError(f"{folder / DESCRIPTION} is damaged: repeat the compare command")
        folders = {label: variant["folder"] for label, variant in variants.items()}
        results: dict[str, dict[int, Mapping[str, Any]]] = {}
        for label, variant in variants.items():
            runs = {seed: RunFolder(folder / variant["folder"] / f"seed{seed}") for seed in variant["seeds"]}
            results[label] = {seed: run.read_result() for seed, run in runs.items() if run.is_finished}
        comparison = cls(folders, results, description["tuned"])
        if not comparison.finished:
            raise ValueError(f"{folder} has no finished run: repeat the compare command")
        return comparison

    @property
    def baseline(self) -> str:
        """The label of the variant that differences are from."""
        return next(iter(self.folders))

    @cached_property
    def finished(self) -> dict[str, Mapping[int, Mapping[str, Any]]]:
        """The results of the variants that have a finished run."""
        return {label: runs for label, runs in self.results.items() if runs}

    @cached_property
    def _first(self) -> Mapping[str, Any]:
        return next(result for runs in self.finished.values() for result in runs.values())

    @cached_property
    def metric(self) -> Metric:
        """The metric by which variants are compared."""
        return Metric.of(self._first)

    @property
    def chance(self) -> float | None:
        """The metric of a guess, as it is shown; None if it is unknown."""
        chance = self._first["chance"]
        return None if chance is None else self.metric.scale * float(chance)

    def values(self, label: str, epoch: str = "last") -> dict[int, float]:
        """Return the metric of a variant's runs by seed, as it is shown."""
        return {seed: self.metric.value_of(result, epoch) for seed, result in self.results[label].items()}

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of ``comparison.csv``, one for each variant with a finished run."""
        return [self._row(label, list(runs.values())) for label, runs in self.finished.items()]

    def _row(self, label: str, results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return means with intervals of the metric and its paired difference, mean ratios, and median costs."""
        last, baseline = self.values(label), self.values(self.baseline)
        samples = {
            "last": list(last.values()),
            "best": list(self.values(label, "best").values()),
            "difference": [value - baseline[seed] for seed, value in last.items() if seed in baseline],
        }
        row: dict[str, Any] = {"variant": label, "n": len(results)}
        for name, values in samples.items():
            row[name], row[f"{name}_interval"] = mean_interval(values)
        for name in FIGURES:
            measured = [result[name] for result in results if result.get(name) is not None]
            if name in COSTS:
                row[name] = median(measured) if measured else math.nan
            else:
                # A gradient that never arrives has a ratio of 0, and a geometric mean cannot include 0.
                row[name] = 0.0 if 0 in measured else geometric_mean(measured)
        return row

    def run_rows(self) -> list[dict[str, Any]]:
        """Return the rows of ``runs.csv``, one for each finished run."""
        return [
            {"variant": label, "folder": self.folders[label], "seed": seed} | dict(flatten_entries(result))
            for label, runs in self.finished.items()
            for seed, result in runs.items()
        ]

    def table(self, brief: bool = False) -> tuple[list[str], list[list[str]]]:
        """Return the column names and the cells of the table; without best epoch and costs if it is to be brief."""
        metric, keys = self.metric, list(dict.fromkeys(key for values in self.tuned.values() for key in values))
        columns = ["method", *keys, "runs", metric.label() if brief else metric.label("{}, last epoch")]
        columns += ["difference", ""] if brief else ["best epoch", f"against {self.baseline}, same seed", ""]
        cells = []
        for row in self.rows:
            values = self.tuned.get(row["variant"], {})
            last, best, difference = ((row[name], row[f"{name}_interval"]) for name in ("last", "best", "difference"))
            judged = [metric.format_interval(*difference, "+"), metric.describe_difference(*difference)]
            line = [row["variant"], *(values.get(key, "-") for key in keys), str(row["n"])]
            line += [metric.format_interval(*last)] + ([] if brief else [metric.format_interval(*best)])
            line += ["-", "baseline"] if row["variant"] == self.baseline else judged
            cells.append(line)
        if not brief:
            columns += [column_title(name) for name in FIGURES]
            for line, row in zip(cells, self.rows, strict=True):
                line += [format_value(float(f"{row[name] * COLUMN_TITLES[name][1]:.3g}")) for name in FIGURES]
        return columns, cells

    def draw(self, path: Path) -> None:
        """Draw mean, interval and runs of each variant."""
        plots.comparison(
            list(self.finished),
            [list(self.values(label).values()) for label in self.finished],
            [row["last_interval"] for row in self.rows],
            path,
            self.metric.label("{}, last epoch"),
            self.chance,
            (0, 100) if self.metric.fraction else None,
        )

    def write(self, folder: Path) -> None:
        """Write the files of the comparison; none if no run has finished."""
        if not self.finished:
            return
        description = {key: self._first[key] for key in ("metric", "higher_is_better", "fraction")}
        description["variants"] = {
            label: {"folder": name, "seeds": list(self.results[label])} for label, name in self.folders.items()
        }
        description["tuned"] = dict(self.tuned)
        write_csv(folder / "runs.csv", self.run_rows())
        write_csv(folder / "comparison.csv", self.rows)
        write_text(folder / DESCRIPTION, json.dumps(description, indent=2) + "\n")
        write_text(folder / "comparison.md", markdown_table(*self.table()) + "\n")
        self.draw(folder / "comparison.png")
