"""``shortcut-snn compare``: presets over seeds, each run resumable, one table at the end."""

import argparse
import itertools
import json
import math
import shlex
import zlib
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from ..analysis import plots
from ..analysis.statistics import geometric_mean, mean_interval
from ..files import write_csv, write_text
from ..recipes.entries import changed, from_dict, layer, merged, parse, said
from ..recipes.recipe import Recipe
from ..runs import RunFolder
from ..runs.folder import flat
from ..runs.tables import COLUMNS, Metric, human, show, table
from ._children import Children, Stopped
from ._launchers import Launcher, Local, add_launcher, launching, train
from ._main import STOPPED, UsageError

HELP = "compare methods over seeds"
DESCRIPTION = (
    "Train several methods over several seeds and compare them. Finished runs are skipped and interrupted ones go on "
    "when the same command is given again."
)
RECIPE = True
METHODS = ("vanilla", "shortcut", "evolutionary", "calibrated")
RATIOS = ("gradient_ratio_first_epoch", "gradient_ratio_last_epoch")
COSTS = ("seconds_per_epoch", "seconds_per_step", "peak_bytes_per_step")
FIGURES = (*RATIOS, *COSTS)


@dataclass(frozen=True)
class Variant:
    """One row of the comparison: a recipe but for its seed."""

    label: str
    recipe: Recipe

    @property
    def folder(self) -> str:
        """A name for its folder."""
        name = "".join(c if c.isalnum() or c in "=.-" else "_" for c in self.label)
        return name if len(name) <= 100 else f"{name[:91]}-{zlib.crc32(self.label.encode()):08x}"


@dataclass(frozen=True)
class Plan:
    """What is compared; the first variant is what the others are set against.

    Args:
        variants: the rows.
        seeds: of each.
        imports: files and modules that every run imports.
    """

    variants: tuple[Variant, ...]
    seeds: tuple[int, ...]
    imports: tuple[str, ...] = ()


def plan(
    entries: Mapping[str, Any],
    methods: Sequence[str] = METHODS,
    seeds: int = 3,
    grid: Iterable[str] = (),
    imports: Sequence[str] = (),
) -> Plan:
    """Return the plan of a command line.

    Args:
        entries: what all runs share.
        methods: presets or files of entries, each perhaps with entries of its own behind it, as in
            ``"evolutionary method.branches.taps=blocks"``; names alone may stand in one string, with commas between.
        seeds: how many, from the recipe's own on.
        grid: entries ``key=a,b`` to vary besides.
        imports: see :class:`Plan`.

    Raises:
        ValueError: an unknown method or entry, or nothing to compare.

    Example:
        >>> [variant.label for variant in plan({}, ["vanilla,evolutionary"], grid=["network.width=8,16"]).variants]
        ['vanilla width=8', 'evolutionary width=8', 'vanilla width=16', 'evolutionary width=16']
    """
    if not 1 <= seeds <= 10_000:
        raise ValueError(f"--seeds is how many, not which: from 1 to 10000, got {seeds}")
    specs = [spec for text in methods for spec in ([text] if "=" in text else text.split(",")) if spec.strip()]
    if not specs:
        raise ValueError("--methods names nothing to compare: presets, as in --methods vanilla evolutionary")
    made: list[tuple[str, str, Recipe]] = []
    for point in itertools.product(*map(_axis, grid)):
        for spec in specs:
            name, *own = shlex.split(spec)
            _refuse_seed([*point, *own])
            method = merged(_laid(entries, layer(name)), said(own))
            branched = from_dict(method).method.branches is not None
            known = {option.partition("=")[0] for option in own}
            # How branches are is no matter of a method that has none, and what a method says itself is not varied.
            varied = [
                option for option in point
                if option.partition("=")[0] not in known and (branched or not option.startswith("method.branches."))
            ]  # fmt: skip
            options = [*varied, *own]
            recipe = from_dict(merged(method, said(varied)))
            made.append((_label(name, options), " ".join([name, *options]), recipe))
    variants: dict[str, Variant] = {}
    for short, whole, recipe in made:
        alike = all(other == recipe for label, _, other in made if label == short)
        variant = Variant(short if alike else whole, recipe)
        variants[variant.label] = variant
        same = next(each for each in variants.values() if each.folder == variant.folder)
        if same != variant:
            raise ValueError(f"{same.label} and {variant.label} would share the folder {variant.folder}: rename a file")
    first = made[0][2].training.seed
    return Plan(tuple(variants.values()), tuple(range(first, first + seeds)), tuple(imports))


def _laid(entries: Mapping[str, Any], preset: Mapping[str, Any]) -> dict[str, Any]:
    """Lay what all share over a preset's method, and the rest of the preset over that.

    So an objective that is said for all holds for all, and a preset without branches has none.
    """
    method, shared = dict(preset.get("method") or {}), dict(entries)
    if method.get("branches", method) is None and isinstance(shared.get("method"), Mapping):
        shared["method"] = {key: value for key, value in shared["method"].items() if key != "branches"}
    return merged({"method": method} if method else {}, shared, {k: v for k, v in preset.items() if k != "method"})


def _refuse_seed(options: Iterable[str]) -> None:
    if any(option.startswith("training.seed=") for option in options):
        raise ValueError("training.seed is not varied like other entries: say how many seeds with --seeds")


def _axis(entry: str) -> list[str]:
    key, equals, values = entry.partition("=")
    if not equals or not values:
        raise ValueError(f"--grid takes KEY=A,B as in method.branches.taps=stages,blocks, got {entry!r}")
    try:
        return [f"{key.strip()}={json.dumps(value)}" for value in parse(f"[{values}]")]
    except ValueError as error:
        raise ValueError(f"--grid {entry}: {error}") from None


def _label(name: str, options: Sequence[str]) -> str:
    """A name and the parts of entries that say enough."""

    def short(key: str) -> str:
        parts = key.split(".")
        # Of a component its kind says what it is.
        return parts[-2] if parts[-1] == "kind" and len(parts) > 1 else parts[-1]

    pairs = [(key, value.replace('"', "")) for key, _, value in (option.partition("=") for option in options)]
    names = [short(key) for key, _ in pairs]
    shown = [key if names.count(short(key)) > 1 else short(key) for key, _ in pairs]
    return " ".join([Path(name).stem, *(f"{key}={value}" for key, (_, value) in zip(shown, pairs, strict=True))])


class RunsFailed(ValueError):
    """Some runs of a comparison failed; ``rows`` is the table of the others."""

    def __init__(self, message: str, rows: list[dict[str, Any]]) -> None:
        super().__init__(message)
        self.rows = rows


def compare(
    plan: Plan,
    folder: str | Path,
    jobs: int = 1,
    tell: Callable[[str], None] = print,
    launcher: Launcher | None = None,
) -> list[dict[str, Any]]:
    """Run what has not run yet and write the comparison.

    Every run is a process of its own with a folder of its own, so one that fails or is killed takes nothing with
    it, and giving the same command again goes on.

    Args:
        plan: what is compared.
        folder: where the runs, ``runs.csv``, ``comparison.csv``, ``comparison.json``, ``comparison.md`` and
            ``comparison.png`` go.
        jobs: processes at the same time; on one machine each gets its share of the CPU threads.
        tell: takes a line as each run ends.
        launcher: what starts them; by default they are processes of this machine.

    Returns:
        The rows of the table.

    Raises:
        RunsFailed: a run failed, or its folder holds that of another recipe; the others have been done.
        ValueError: less than one job.
    """
    if jobs < 1:
        raise ValueError(f"--jobs must be at least 1, got {jobs}")
    folder, launcher = Path(folder), launcher or Local(jobs)
    todo = [(variant, seed) for seed in plan.seeds for variant in plan.variants]
    tell(f"{len(plan.variants)} variants, {len(plan.seeds)} seeds: {len(todo)} runs in {folder}")
    failed: dict[Path, str] = {}
    children = Children(tell)

    def one(task: tuple[Variant, int]) -> None:
        variant, seed = task
        place = RunFolder(folder / variant.folder / f"seed{seed}")
        try:
            recipe = changed(variant.recipe, {"training": {"seed": seed}})
            if place.is_finished:
                place.check_same(recipe.to_dict())
            else:
                train(children, launcher, recipe, place, plan.imports, tell=tell)
            result = place.read_result()
        except Stopped:
            tell(f"stopped {variant.label}, seed {seed}; {STOPPED}")
        except (ValueError, OSError) as error:
            failed[place.path] = str(error)
            tell(f"FAILED {variant.label}, seed {seed}: {error} (log: {place}.log)")
        else:
            metric = Metric.of(result)
            shown = metric.show(metric.reached(result, "last") / metric.scale)
            tell(f"{variant.label}, seed {seed}: {metric.name} {shown}")

    with ThreadPoolExecutor(jobs) as pool, children.block():
        list(pool.map(one, todo))
    rows = summarise(plan, folder, leave_out=failed)
    if failed:
        place, error = next(iter(failed.items()))
        raise RunsFailed(f"{len(failed)} of {len(todo)} runs failed, first {place}: {error}", rows)
    return rows


def summarise(plan: Plan, folder: str | Path, leave_out: Container[Path] = ()) -> list[dict[str, Any]]:
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
            {"variant": variant.label, "folder": variant.folder, "seed": seed} | dict(flat(result))
            for seed, result in found[variant.label].items()
        ]
    if not runs:
        return rows
    baseline = plan.variants[0].label
    first = next(result for results in found.values() for result in results.values())
    metric = Metric.of(first)
    against = {seed: metric.reached(result, "last") for seed, result in found[baseline].items()}
    for label, results in found.items():
        if results:
            rows.append({"variant": label, "n": len(results)} | _figures(results, against, metric))
    about = {key: first[key] for key in ("metric", "higher_is_better", "fraction")} | {"baseline": baseline}
    write_csv(folder / "runs.csv", runs)
    write_csv(folder / "comparison.csv", rows)
    write_text(folder / "comparison.json", json.dumps(about, indent=2) + "\n")
    write_text(folder / "comparison.md", table(*comparison_table(rows, metric, baseline)) + "\n")
    plots.comparison(
        [row["variant"] for row in rows],
        [[metric.reached(result, "last") for result in found[row["variant"]].values()] for row in rows],
        [row["last_interval"] for row in rows],
        folder / "comparison.png",
        metric.label(),
        None if first["chance"] is None else metric.scale * first["chance"],
    )
    return rows


def _figures(results: Mapping[int, dict[str, Any]], against: Mapping[int, float], metric: Metric) -> dict[str, Any]:
    last = {seed: metric.reached(result, "last") for seed, result in results.items()}
    columns = {
        "last": list(last.values()),
        "best": [metric.reached(result, "best") for result in results.values()],
        "difference": [value - against[seed] for seed, value in last.items() if seed in against],
    }
    figures: dict[str, Any] = {}
    for name, values in columns.items():
        figures[name], figures[f"{name}_interval"] = mean_interval(values) if values else (math.nan, math.nan)
    for name in RATIOS:
        figures[name] = geometric_mean([result[name] for result in results.values() if result[name]])
    for name in COSTS:
        known = [result[name] for result in results.values() if result.get(name) is not None]
        figures[name] = median(known) if known else math.nan
    return figures


def comparison_table(
    rows: Sequence[Mapping[str, Any]], metric: Metric, baseline: str
) -> tuple[list[str], list[list[str]]]:
    """Return columns and cells of a comparison, as a person reads it.

    Args:
        rows: of ``comparison.csv``, numbers as numbers.
        metric: what is compared.
        baseline: the method that the others are set against.
    """
    against = f"against {baseline}, same seed"
    columns = ["method", "runs", metric.label("{}, last epoch"), "best epoch", against, "", *map(human, FIGURES)]
    cells = []
    for row in rows:
        last, best, difference = ((row[name], row[f"{name}_interval"]) for name in ("last", "best", "difference"))
        set_against = (metric.within(*difference, "+"), metric.clearly(*difference))
        cells.append(
            [
                row["variant"],
                show(row["n"]),
                metric.within(*last),
                metric.within(*best),
                *(("-", "baseline") if row["variant"] == baseline else set_against),
                *(show(float(f"{row[name] * COLUMNS[name][1]:.3g}")) for name in FIGURES),
            ]
        )
    return columns, cells


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
    add_launcher(parser)


def run(options: argparse.Namespace) -> int:
    """Compare and print the table, of what has finished if not all has."""
    try:
        # The presets that a file names are one of the methods that are compared, not what these share.
        shared = merged(*(layer(name, presets=False) for name in options.layers), said(options.entries))
        chosen = plan(shared, options.methods, options.seeds, options.grid, options.imports)
    except ValueError as error:
        raise UsageError(str(error)) from None
    try:
        with launching(options, options.out) as launcher:
            rows = compare(chosen, options.out, options.jobs, launcher=launcher)
    except RunsFailed as error:
        _tell(error.rows, chosen, Path(options.out))
        raise
    _tell(rows, chosen, Path(options.out))
    return 0


def _tell(rows: Sequence[Mapping[str, Any]], plan: Plan, folder: Path) -> None:
    if not rows:
        return
    print("\n" + (folder / "comparison.md").read_text(encoding="utf-8"), end="")
    if rows[0]["variant"] != (baseline := plan.variants[0].label):
        print(f"\nno run of {baseline} has finished: there is nothing to set the others against")
    print(f"\nwritten: comparison.csv, comparison.md, comparison.png and runs.csv in {folder}")
