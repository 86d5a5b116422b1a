"""Runs that take no time: they write what a real run writes, with a metric that depends on the recipe."""

import csv
import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from shortcut_snn._utils.files import write_csv
from shortcut_snn.recipes import Recipe, recipe_of
from shortcut_snn.recipes.entries import write_recipe

RESULT = {
    "metric": "accuracy", "higher_is_better": True, "fraction": True, "chance": 0.1, "best_epoch": 1,
    "best_chosen_on": "validation", "firing_rate": 0.1, "gradient_ratio_first_epoch": 1.0,
    "gradient_ratio_last_epoch": 1.0, "seconds_per_epoch": 1.0,
}  # fmt: skip


def write_result(folder: Path, accuracy: float, **changes: Any) -> None:
    """Write the result of a finished run."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = {f"{part}_{when}": {"accuracy": accuracy} for part in ("test", "validation") for when in ("last", "best")}
    (folder / "result.json").write_text(json.dumps(RESULT | parts | changes))


class FakeProcess:
    """A run that trains one epoch each time it is polled."""

    def __init__(self, runs: "FakeRuns", recipe: Recipe, folder: Path, log: Path) -> None:
        self.runs, self.recipe, self.folder, self.log = runs, recipe, folder, log
        self.rows: list[dict[str, float]] = []
        self.stopped = False
        folder.mkdir(parents=True, exist_ok=True)
        write_recipe(recipe, folder / "recipe.yaml")
        (folder / "environment.json").write_text(json.dumps({"imports": runs.imports}))

    def poll(self) -> int | None:
        if self.stopped:
            return 143
        accuracy = self.runs.accuracy(self.recipe)
        if accuracy is None:
            self.log.write_text(f"shortcut-snn: error: {self.runs.error}\n")
            return 1
        if len(self.rows) < self.recipe.training.epochs:
            epoch = len(self.rows) + 1
            self.rows.append({"epoch": epoch, "validation_accuracy": accuracy * epoch / self.recipe.training.epochs})
            write_csv(self.folder / "metrics.csv", self.rows)
            return None
        write_result(self.folder, accuracy, epochs=len(self.rows))
        return 0

    def terminate(self) -> None:
        self.stopped = True

    kill = terminate


class FakeRuns:
    """Replace the processes of this machine by fake runs.

    Args:
        accuracy: of a recipe; None for a run that fails.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, accuracy: Callable[[Recipe], float | None]) -> None:
        self.accuracy = accuracy
        self.error = "the loss is NaN"
        self.trained: list[tuple[str, Recipe]] = []
        self.imports: list[dict[str, Any]] = []
        monkeypatch.setattr("shortcut_snn.cli._run_pool.start_python", self._start)
        monkeypatch.setattr("shortcut_snn.cli._run_pool.POLL_SECONDS", 0)

    def _start(self, arguments: Sequence[str], log: Path, threads: int) -> FakeProcess:
        words = dict(pairwise(arguments))
        recipe, folder = recipe_of(words["--config"]), Path(words["--out"])
        self.trained.append((folder.name, recipe))
        return FakeProcess(self, recipe, folder, log)


def table(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file."""
    with path.open() as file:
        return list(csv.DictReader(file))
