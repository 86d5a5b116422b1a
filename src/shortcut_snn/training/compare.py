"""``shortcut-snn compare``: methods over seeds, each run resumable, one table at the end."""

import dataclasses
import itertools
import math
import os
from collections.abc import Callable, Container, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, get_args

from ..analysis.statistics import geometric_mean, mean_interval, with_interval
from ..commands.children import Children, said
from ..files import write_csv, write_text
from . import recipe_io
from .methods import KINDS, Method, carried, fits, refuse
from .recipe import Recipe
from .report import table

COSTS = ("seconds_per_epoch", "seconds_per_step", "peak_bytes_per_step")


@dataclass(frozen=True)
class Variant:
    """One row of the comparison: a recipe but for its seed."""

    label: str
    recipe: Recipe

    @property
    def folder(self) -> str:
        """A name for its folder."""
        return variant_folder(self.label)


def variant_folder(label: str) -> str:
    """Return the name of the folder for a variant's runs."""
    return "".join(c if c.isalnum() or c in "=.-" else "_" for c in label)


@dataclass(frozen=True)
class Plan:
    """What is compared."""

    variants: tuple[Variant, ...]
    seeds: tuple[int, ...]

    @classmethod
    def parse(cls, recipe: Recipe, methods: str, seeds: int, grid: Iterable[str] = ()) -> "Plan":
        """Make the plan of a command line.

        Args:
            recipe: what all runs share.
            methods: names with commas between; a name may carry entries, of the method or of any section of the
                recipe, as in ``evolutionary:taps=blocks:neuron.gradient=sltt``.
            seeds: how many, from the recipe's own on.
            grid: entries ``key=a,b`` to vary besides.

        Raises:
            ValueError: an unknown method or entry, or nothing to compare.
        """
        if seeds < 1:
            raise ValueError(f"--seeds must be at least 1, got {seeds}")
        if seeds > 10_000:
            raise ValueError(f"--seeds is how many, not which: at most 10000, got {seeds}")
        specs = [_spec(text.strip()) for text in methods.split(",") if text.strip()]
        if not specs:
            raise ValueError(f"--methods names nothing to compare: use some of {', '.join(get_args(Method))}")
        axes = [_axis(entry) for entry in grid]
        variants: dict[str, Variant] = {}
        for point in itertools.product(*axes):
            for name, own in specs:
                # What of the grid makes no difference to a method is not run several times.
                changes = {key: value for key, value in point if fits(name, key)} | own
                base = dataclasses.replace(recipe, method=carried(recipe.method, name))
                made = recipe_io.changed(base, changes)
                for key, value in changes.items():
                    _check_entry(name, key, value)
                label = " ".join([name, *(f"{_short(key)}={value}" for key, value in changes.items())])
                variants[label] = Variant(label, made)
        first = recipe.train.seed
        return cls(tuple(variants.values()), tuple(range(first, first + seeds)))


def _check_entry(name: Method, key: str, value: Any) -> None:
    if key == "train.seed":
        raise ValueError("train.seed is not varied like other entries: say how many seeds with --seeds")
    if not fits(name, key):
        raise ValueError(f"{key} makes no difference to {name}; leave it out")
    if value != KINDS[name].sets.get(key, value):
        refuse(name, key, value)


def _spec(text: str) -> tuple[Method, dict[str, Any]]:
    name, *entries = text.split(":")
    if name not in get_args(Method):
        raise ValueError(f"unknown method {name!r}: use some of {', '.join(get_args(Method))}")
    pairs = [entry.partition("=") for entry in entries]
    wrong = [entry for entry, (_, equals, value) in zip(entries, pairs, strict=True) if not (equals and value)]
    if wrong:
        raise ValueError(f"a method's entries are KEY=VALUE, as in evolutionary:taps=blocks, got {wrong[0]!r}")
    return name, {_whole_key(key): recipe_io.value(value) for key, _, value in pairs}  # type: ignore[return-value]


def _whole_key(key: str) -> str:
    """An entry's dotted key; without a section of the recipe in front it is the method's."""
    sections = {field.name for field in dataclasses.fields(Recipe)}
    return key if key.split(".")[0] in sections else f"method.{key}"


def _short(key: str) -> str:
    """The part of an entry's key that says enough in a label."""
    return key.split(".", 1)[1] if key.count(".") > 1 else key.split(".")[-1]


def _axis(entry: str) -> list[tuple[str, Any]]:
    key, equals, values = entry.partition("=")
    if not equals or not values:
        raise ValueError(f"--grid takes KEY=A,B as in method.taps=stages,blocks, got {entry!r}")
    return [(key.strip(), recipe_io.value(value)) for value in values.split(",")]


def compare(plan: Plan, folder: Path, jobs: int = 1, tell: Callable[[str], None] = print) -> list[dict[str, Any]]:
    """Run what has not run yet and print the table.

    Every run is a process of its own with a folder of its own, so one that fails or is killed takes nothing with
    it, and giving the same command again goes on.

    Args:
        plan: what is compared.
        folder: where the runs, ``runs.csv``, ``comparison.csv``, ``comparison.md`` and ``comparison.png`` go.
        jobs: processes at the same time; each gets its share of the CPU threads.
        tell: takes lines for a person.

    Returns:
        The rows of the table.

    Raises:
        ValueError: a run failed, or its folder holds that of another recipe; the others have been done.
    """
    if jobs < 1:
        raise ValueError(f"--jobs must be at least 1, got {jobs}")
    todo = [(variant, seed) for seed in plan.seeds for variant in plan.variants]
    tell(f"{len(plan.variants)} variants, {len(plan.seeds)} seeds: {len(todo)} runs in {folder}")
    threads = max(1, (os.cpu_count() or 1) // jobs)
    failed: dict[Path, str] = {}
    children = Children()

    def one(task: tuple[Variant, int]) -> None:
        variant, seed = task
        place = folder / variant.folder / f"seed{seed}"
        try:
            result = _result(recipe_io.changed(variant.recipe, {"train.seed": seed}), place, threads, children)
        except (ValueError, OSError) as error:
            failed[place] = str(error)
            tell(f"FAILED {variant.label}, seed {seed}: {error} (log: {place}.log)")
        else:
            tell(f"{variant.label}, seed {seed}: test accuracy {100 * result['test_accuracy_last']:.2f} %")

    with ThreadPoolExecutor(jobs) as pool, children.block():
        list(pool.map(one, todo))
    rows = summarise(plan, folder, tell, leave_out=failed)
    if failed:
        place, error = next(iter(failed.items()))
        raise ValueError(f"{len(failed)} of {len(todo)} runs failed, first {place}: {error}")
    return rows


def _result(recipe: Recipe, place: Path, threads: int, children: Children) -> dict[str, Any]:
    """Return a run's result, training in a process of its own what is not finished.

    Raises:
        ValueError: training failed, or the folder holds a run of another recipe.
        OSError: the folder cannot be used.
    """
    from .resume import RESULT, check_recipe
    from .run import read_result

    if (place / RESULT).is_file():
        check_recipe(recipe, place)
    else:
        _train(recipe, place, threads, children)
    return read_result(place)


def _train(recipe: Recipe, place: Path, threads: int, children: Children) -> None:
    config, log = place.with_suffix(".yaml"), place.with_suffix(".log")
    recipe_io.write(recipe, config)
    command = ["-m", "shortcut_snn", "train", "--config", str(config), "--out", str(place), "--resume"]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    with log.open("ab") as output:
        status = children.run(command, output, environment)
    if status:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise ValueError(said(status, lines))


def summarise(
    plan: Plan, folder: Path, tell: Callable[[str], None] = print, leave_out: Container[Path] = ()
) -> list[dict[str, Any]]:
    """Read the finished runs but those to leave out, write the files and print the table."""
    from ..analysis import plots
    from .resume import RESULT
    from .run import read_result

    runs: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    baseline: dict[int, float] = {}

    def wanted(place: Path) -> bool:
        return place not in leave_out and (place / RESULT).is_file()

    for variant in plan.variants:
        places = {seed: folder / variant.folder / f"seed{seed}" for seed in plan.seeds}
        results = {seed: read_result(place) for seed, place in places.items() if wanted(place)}
        if not results:
            continue
        last = {seed: 100 * result["test_accuracy_last"] for seed, result in results.items()}
        baseline = baseline or last
        runs += [{"variant": variant.label, "seed": seed} | result for seed, result in results.items()]
        rows.append({"variant": variant.label, "n": len(results)} | _figures(list(results.values()), last, baseline))
    if not rows:
        return rows
    write_csv(folder / "runs.csv", runs)
    write_csv(folder / "comparison.csv", rows)
    text = _table(rows)
    write_text(folder / "comparison.md", text + "\n")
    plots.comparison(
        [row["variant"] for row in rows],
        [[100 * run["test_accuracy_last"] for run in runs if run["variant"] == row["variant"]] for row in rows],
        [row["last_interval"] for row in rows],
        folder / "comparison.png",
        "test accuracy after the last epoch, %",
    )
    tell(f"\n{text}\n\nwritten: comparison.csv, comparison.md, comparison.png and runs.csv in {folder}")
    return rows


def _figures(results: Sequence[dict[str, Any]], last: dict[int, float], baseline: dict[int, float]) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    pairs = [last[seed] - baseline[seed] for seed in last if seed in baseline]
    columns = {
        "last": list(last.values()),
        "best": [100 * result["test_accuracy_best"] for result in results],
        "difference": pairs,
    }
    for name, values in columns.items():
        figures[name], figures[f"{name}_interval"] = mean_interval(values)
    for when in ("first", "last"):
        ratios = [result[f"gradient_ratio_{when}_epoch"] for result in results]
        figures[f"gradient_ratio_{when}_epoch"] = geometric_mean(ratios)
    for name in COSTS:
        # Runs of older versions do not know all of them.
        known = [result[name] for result in results if result.get(name) is not None]
        figures[name] = median(known) if known else math.nan
    return figures


def _known(value: float, form: str) -> str:
    return f"{value:{form}}" if value == value else "-"


def _table(rows: Sequence[dict[str, Any]]) -> str:
    def within(row: dict[str, Any], name: str, sign: str = "") -> str:
        return with_interval(row[name], row[f"{name}_interval"], sign=sign)

    cells = [
        [
            row["variant"],
            str(row["n"]),
            within(row, "last"),
            within(row, "best"),
            "-" if index == 0 else within(row, "difference", "+"),
            f"{row['gradient_ratio_first_epoch']:.3g} → {row['gradient_ratio_last_epoch']:.3g}",
            f"{row['seconds_per_epoch']:.1f}",
            _known(row["seconds_per_step"], ".3g"),
            _known(row["peak_bytes_per_step"] / 2**20, ".0f"),
        ]
        for index, row in enumerate(rows)
    ]
    columns = [
        "method",
        "n",
        "last epoch, %",
        "best epoch in validation, %",
        f"last epoch against {rows[0]['variant']}, paired",
        "gradient, first layer / last: epoch 1 → end",
        "s / epoch",
        "s / step",
        "MiB / step",
    ]
    return table(columns, cells)
