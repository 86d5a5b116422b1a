"""``shortcut-snn compare``: presets over seeds, each run resumable, one table at the end."""

import argparse
import dataclasses
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
from ..files import read_json, write_csv, write_text
from ..recipes import build
from ..recipes.entries import changed, from_dict, layer, merged, parse, said
from ..recipes.recipe import Recipe
from ..runs import RunFolder
from ..runs.folder import flat
from ..runs.tables import COLUMNS, Metric, human, show, table
from ._children import Children, Stopped
from ._launchers import Launcher, Local, add_launcher, launching, train
from ._main import STOPPED, UsageError
from ._output import tell

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
    """One row of the comparison: a recipe but for its seed.

    Args:
        label: its name.
        recipe: what its runs do.
        tries: sets of entries, as ``("optimizer.lr=0.1",)``, of which the best is found first; none: nothing is tuned.
    """

    label: str
    recipe: Recipe
    tries: tuple[tuple[str, ...], ...] = ()

    @property
    def folder(self) -> str:
        """A name for its folder."""
        return _folder(self.label)


def _folder(label: str) -> str:
    name = "".join(c if c.isalnum() or c in "=.-" else "_" for c in label)
    return name if len(name) <= 100 else f"{name[:91]}-{zlib.crc32(label.encode()):08x}"


@dataclass(frozen=True)
class Plan:
    """What is compared; the first variant is what the others are set against.

    Args:
        variants: the rows.
        seeds: of each.
        imports: files and modules that every run imports.
        tune_epochs: how long a run of a variant's tries is; None: as long as any other.
    """

    variants: tuple[Variant, ...]
    seeds: tuple[int, ...]
    imports: tuple[str, ...] = ()
    tune_epochs: int | None = None


def plan(
    entries: Mapping[str, Any],
    methods: Sequence[str] = METHODS,
    seeds: int = 3,
    grid: Iterable[str] = (),
    imports: Sequence[str] = (),
    tune: Iterable[str] = (),
    tune_epochs: int | None = None,
) -> Plan:
    """Return the plan of a command line.

    Args:
        entries: what all runs share.
        methods: presets or files of entries, each perhaps with entries of its own behind it, as in
            ``"evolutionary method.branches.taps=blocks"``; names alone may stand in one string, with commas between.
        seeds: how many, from the recipe's own on.
        grid: entries ``key=a,b`` to vary besides.
        imports: see :class:`Plan`.
        tune: entries ``key=a,b`` of which each variant gets its own best.
        tune_epochs: see :class:`Plan`.

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
    tuned = [_axis(entry, "--tune") for entry in tune]
    if tune_epochs is not None and not tuned:
        raise ValueError("--tune-epochs is for --tune, as in --tune optimizer.lr=0.03,0.1,0.3")
    made: list[tuple[str, str, Recipe, tuple[tuple[str, ...], ...]]] = []
    for point in itertools.product(*map(_axis, grid)):
        for spec in specs:
            name, *own = shlex.split(spec)
            _refuse_seed([*point, *own, *(axis[0] for axis in tuned)])
            method = merged(_laid(entries, layer(name)), said(own))
            branched = from_dict(method).method.branches is not None
            known = {option.partition("=")[0] for option in own}

            def concerns(option: str, known: Container[str] = known, branched: bool = branched) -> bool:
                # How branches are is no matter of a method that has none, and what a method says itself is not varied.
                key = option.partition("=")[0]
                return key not in known and (branched or not key.startswith("method.branches."))

            varied = [option for option in point if concerns(option)]
            options = [*varied, *own]
            recipe = from_dict(merged(method, said(varied)))
            axes = [axis for axis in tuned if concerns(axis[0])]
            tries = tuple(itertools.product(*axes)) if axes else ()
            for each in tries:
                if both := {option.partition("=")[0] for option in varied} & {o.partition("=")[0] for o in each}:
                    raise ValueError(f"{both.pop()} is both in --grid and in --tune: each value, or each method's best")
                tried(recipe, each, tune_epochs)
            made.append((_label(name, options), " ".join([name, *options]), recipe, tries))
    variants: dict[str, Variant] = {}
    for short, whole, recipe, tries in made:
        alike = all(other == recipe for label, _, other, _ in made if label == short)
        variant = Variant(short if alike else whole, recipe, tries)
        variants[variant.label] = variant
        same = next(each for each in variants.values() if each.folder == variant.folder)
        if same != variant:
            raise ValueError(f"{same.label} and {variant.label} would share the folder {variant.folder}: rename a file")
    first = made[0][2].training.seed
    return Plan(tuple(variants.values()), tuple(range(first, first + seeds)), tuple(imports), tune_epochs)


def tried(recipe: Recipe, options: Sequence[str], epochs: int | None = None) -> Recipe:
    """Return a variant's recipe with one of its tries, for so many epochs.

    Raises:
        ValueError: an entry that there is not, or a value that makes no sense.
    """
    return changed(recipe, said(options), {} if epochs is None else {"training": {"epochs": epochs}})


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


def _axis(entry: str, option: str = "--grid") -> list[str]:
    key, equals, values = entry.partition("=")
    if not equals or not values:
        raise ValueError(f"{option} takes KEY=A,B as in method.branches.taps=stages,blocks, got {entry!r}")
    try:
        return [f"{key.strip()}={json.dumps(value)}" for value in parse(f"[{values}]")]
    except ValueError as error:
        raise ValueError(f"{option} {entry}: {error}") from None


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


def held_out(recipe: Recipe) -> dict[str, Any]:
    """Return what a recipe's runs are judged by: metric, direction, whether a fraction, chance.

    Raises:
        ValueError: it holds out no validation data.
        FileNotFoundError: missing data.
    """
    task, data = build(recipe)
    if data.loaders(recipe.training.seed).validation is None:
        entry = ": add --data.validation 0.1" if hasattr(recipe.data, "validation") else ""
        raise ValueError(f"values are chosen on validation data, and this recipe holds out none{entry}")
    names = ("metric", "higher_is_better", "fraction", "chance")
    return {name: getattr(task, name) for name in names}


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
    runs, tries = len(plan.variants) * len(plan.seeds), sum(len(variant.tries) for variant in plan.variants)
    first = f", after {tries} that tune" if tries else ""
    tell(f"{len(plan.variants)} variants, {len(plan.seeds)} seeds: {runs} runs{first} in {folder}")
    failed: dict[Path, str] = {}
    children = Children(tell)

    def one(shown: str, recipe: Recipe, place: RunFolder, when: str) -> dict[str, Any] | None:
        try:
            if place.is_finished:
                place.check_same(recipe.to_dict())
            else:
                train(children, launcher, recipe, place, plan.imports, tell=tell)
            result = place.read_result()
        except Stopped:
            tell(f"stopped {shown}; {STOPPED}")
            return None
        except (ValueError, OSError) as error:
            failed[place.path] = str(error)
            tell(f"FAILED {shown}: {error} (log: {place}.log)")
            return None
        metric = Metric.of(result)
        tell(f"{shown}: {when}{metric.name} {metric.show(_value(result, metric, tune=bool(when)))}")
        return result

    def tune(task: tuple[Variant, tuple[str, ...]]) -> dict[str, Any] | None:
        variant, options = task
        place = RunFolder(folder / variant.folder / "tune" / _folder(" ".join(options)))
        shown = f"{variant.label}, trying {' '.join(options)}"
        return one(shown, tried(variant.recipe, options, plan.tune_epochs), place, "validation ")

    def final(task: tuple[Variant, int]) -> None:
        variant, seed = task
        place = RunFolder(folder / variant.folder / f"seed{seed}")
        one(f"{variant.label}, seed {seed}", changed(variant.recipe, {"training": {"seed": seed}}), place, "")

    tuned: dict[str, dict[str, str]] = {}
    with ThreadPoolExecutor(jobs) as pool, children.block():
        todo = [(variant, options) for variant in plan.variants for options in variant.tries]
        results = list(pool.map(tune, todo))
        # A value at which training fails is not chosen: no run of the table has failed by that.
        unfit, stopped = dict(failed), results.count(None) > len(failed)
        failed.clear()
        variants = []
        for variant in () if stopped else plan.variants:
            found = {
                options: result for (of, options), result in zip(todo, results, strict=True)
                if of == variant and result is not None
            }  # fmt: skip
            if not variant.tries or found:
                variant, tuned[variant.label] = chosen(variant, found)
                variants.append(variant)
            else:
                place, reason = next((p, r) for p, r in unfit.items() if p.parts[-3] == variant.folder)
                failed |= {folder / variant.folder / f"seed{seed}": f"{place}: {reason}" for seed in plan.seeds}
        if todo and tuned:
            _write_tuning(folder, todo, results, tuned)
        for label, values in tuned.items():
            if values:
                tell(f"{label} trains with {', '.join(f'{key} {value}' for key, value in values.items())}")
        list(pool.map(final, [(variant, seed) for seed in plan.seeds for variant in variants]))
    rows = summarise(plan, folder, leave_out=failed, tuned=tuned)
    if failed:
        place, error = next(iter(failed.items()))
        raise RunsFailed(f"{len(failed)} of {runs} runs failed, first {place}: {error}", rows)
    return rows


def _value(result: Mapping[str, Any], metric: Metric, tune: bool = False) -> float:
    """What a run reached, as a fraction where the metric is one: on validation data for those that tune."""
    if tune:
        return float((result["validation_last"] or {}).get(metric.name, math.nan))
    return metric.reached(result, "last") / metric.scale


def chosen(variant: Variant, found: Mapping[tuple[str, ...], Mapping[str, Any]]) -> tuple[Variant, dict[str, str]]:
    """Return a variant with the best of its tries in its recipe, and what that is, by key, as a person reads it.

    Args:
        variant: what was tuned; without tries it stays what it is.
        found: the results of its tries that did not fail.

    Raises:
        ValueError: a result says nothing of validation data.
    """
    if not variant.tries:
        return variant, {}
    metric = Metric.of(next(iter(found.values())))
    values = {options: _value(result, metric, tune=True) for options, result in found.items()}
    known = {options: value for options, value in values.items() if math.isfinite(value)}
    if not known:
        raise ValueError(f"{variant.label}: no run of --tune has a {metric.words} on validation data")
    best = (max if metric.higher_is_better else min)(known, key=lambda options: known[options])
    told = {}
    for place, option in enumerate(best):
        key, _, text = option.partition("=")
        every = [json.loads(options[place].partition("=")[2]) for options in variant.tries]
        value, told[key] = json.loads(text), text.strip('"')
        if all(isinstance(each, int | float) and not isinstance(each, bool) for each in every) and len(set(every)) > 1:
            ends = {min(every): "the least tried", max(every): "the greatest tried"}
            told[key] += f" ({ends[value]})" if value in ends else ""
    return dataclasses.replace(variant, recipe=tried(variant.recipe, best)), told


def _write_tuning(
    folder: Path,
    todo: Sequence[tuple[Variant, tuple[str, ...]]],
    results: Sequence[Mapping[str, Any] | None],
    tuned: Mapping[str, Mapping[str, str]],
) -> None:
    rows = []
    for (variant, options), result in zip(todo, results, strict=True):
        values = {key: text for key, _, text in (option.partition("=") for option in options)}
        best = {key: text.partition(" (")[0] for key, text in tuned.get(variant.label, {}).items()}
        is_best = best == {key: text.strip('"') for key, text in values.items()}
        row: dict[str, Any] = {"variant": variant.label, **values}
        if result is not None:
            metric = Metric.of(result)
            row |= {f"validation_{metric.name}": _value(result, metric, tune=True), "epochs": result["epochs"]}
        rows.append(row | {"outcome": "failed" if result is None else "chosen" if is_best else ""})
    write_csv(folder / "tuning.csv", rows)


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
    tuned = {label: dict(values) for label, values in (tuned or {}).items() if values}
    about |= {"tuned": tuned} if tuned else {}
    write_csv(folder / "runs.csv", runs)
    write_csv(folder / "comparison.csv", rows)
    write_text(folder / "comparison.json", json.dumps(about, indent=2) + "\n")
    write_text(folder / "comparison.md", table(*comparison_table(rows, metric, baseline, tuned)) + "\n")
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
    columns = ["method", *keys, "runs", metric.label("{}, last epoch"), "best epoch", against, "", *map(human, FIGURES)]
    cells = []
    for row in rows:
        last, best, difference = ((row[name], row[f"{name}_interval"]) for name in ("last", "best", "difference"))
        set_against = (metric.within(*difference, "+"), metric.clearly(*difference))
        cells.append(
            [
                row["variant"],
                *(tuned.get(row["variant"], {}).get(key, "-") for key in keys),
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
        shared = merged(*(layer(name, presets=False) for name in options.layers), said(options.entries))
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
            rows = compare(made, options.out, options.jobs, tell, launcher=launcher)
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
    kept = [place for place, name in enumerate(columns) if name not in ("best epoch", *map(human, FIGURES))]
    short = {columns[kept[-3]]: Metric.of(about).label(), columns[kept[-2]]: "difference"}
    lines = [[line[place] for place in kept] for line in (columns, *cells)]
    tell("\n" + table([short.get(name, name) for name in lines[0]], lines[1:]))
    tell(f"\nmeans over seeds after the last epoch with 95 % intervals; differences from {baseline} with the same seed")
    if rows[0]["variant"] != baseline:
        tell(f"\nno run of {baseline} has finished: there is nothing to set the others against")
    tell(f"\nwritten: comparison.csv, comparison.md, comparison.png and runs.csv in {folder}")
