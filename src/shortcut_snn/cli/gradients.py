"""``shortcut-snn gradients``: each layer with and without the method (paper, figure 2), a verdict, and what helps."""

import argparse
import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from .. import plots
from ..data import Data
from ..diagnosis import (
    BRANCH_CHANGES,
    NETWORK_CHANGES,
    Batch,
    Diagnosis,
    GradientReport,
    Remedy,
    Setup,
    diagnose_setup,
    judge,
    mean_cosine,
    measure_gradients,
    neuron_remedies,
)
from ..files import write_csv
from ..random_state import seed_everything
from ..recipes import (
    Recipe,
    build,
    build_task,
    changed,
    check_data,
    describe_method,
    load_data,
    load_network,
    run_recipe,
)
from ..training import (
    LAYER_TABLE_LEGEND,
    RunFolder,
    Task,
    calibrate_task,
    calibrates,
    layer_rows,
    layer_table,
    markdown_table,
    seeded,
)
from ._parser import at_least_one

# Entries that add branches to a recipe, and the same as options. A preset would replace the recipe of a run.
EVOLUTIONARY = "evolutionary", "--preset evolutionary"
EVOLUTIONARY_OF_RUN = (
    {"method": {"objective": {"kind": "logit_sum"}, "branches": {"branch_weight": {"kind": "linear"}}}},
    "--method.objective.kind logit_sum --method.branches.branch_weight.kind linear",
)


@dataclass(frozen=True)
class Gradients:
    """What was measured.

    Args:
        names: what each report is of, for a person.
        reports: gradients of the weights: ``"without"`` (the same network trained by nothing but its loss) and, if the
            recipe has a method, ``"with"``.
        diagnosis: layers, verdict and tips, as the recipe trains.
        agreement: cosine of the first layer's gradient between batches, None of one batch.
        images: in the first batch.
    """

    names: dict[str, str]
    reports: dict[str, GradientReport]
    diagnosis: Diagnosis
    agreement: float | None
    images: int


def gradients(recipe: Recipe, batches: int = 2, run: RunFolder | None = None) -> Gradients:
    """Measure a recipe's gradients, layer by layer, with its method and without.

    Args:
        recipe: data, network and method; lambda is the schedule's at the start of training.
        batches: how many to look at; figures are the first one's, and a tip has to help on all.
        run: take this run's trained weights, surrogates and all; by default the network is new.

    Raises:
        ValueError: a recipe that makes no sense, data or files that cannot be used.
    """
    if batches < 1:
        raise ValueError(f"batches must be at least 1, got {batches}")
    with seeded(recipe.training.seed, recipe.training.threads):
        data = load_data(recipe)
        task = _task(recipe, data, run)
        stream = itertools.islice(iter(data.loaders(recipe.training.seed).train), batches)
        seen = [task.prepare_batch(batch) for batch in stream]
        weight = task.branch_weight(0, 1) if task.model.branches else 0.0
        plain = changed(recipe, "vanilla")
        measured = {"without": (_task(plain, data, run), 0.0)}
        names = {"without": "without the method"}
        if recipe.method != plain.method:
            measured["with"], names["with"] = (task, weight), describe_method(recipe.method)
        reports = {name: _measure(*pair, seen[0]) for name, pair in measured.items()}
        # The first layer's, as the recipe trains: does another batch give the same direction?
        firsts = [_measure(task, weight, batch).first for batch in seen]
        setup = _setup(task, weight)
        found = diagnose_setup(setup, seen, lambda: _remedies(recipe, setup, seen) + _rebuilt(recipe, data, run))
    agreement = float(mean_cosine(firsts)) if len(firsts) > 1 else None
    return Gradients(names, reports, found, agreement, task.count_samples(seen[0][1]))


def gradients_at_start(recipe: Recipe) -> GradientReport:
    """Measure the gradients of a recipe's network before its first step, on its first batch."""
    with seeded(recipe.training.seed, recipe.training.threads):
        data = load_data(recipe)
        task = _task(recipe, data, None)
        batch = task.prepare_batch(next(iter(data.loaders(recipe.training.seed).train)))
        return _measure(task, task.branch_weight(0, 1) if task.model.branches else 0.0, batch)


def _measure(task: Task, weight: float, batch: Batch) -> GradientReport:
    with task.objective_outputs():
        return measure_gradients(task.model, *batch, task.compute_loss, weight)


def _task(recipe: Recipe, data: Data, run: RunFolder | None) -> Task:
    if run is not None:
        seed_everything(recipe.training.seed)
        network, then = load_network(recipe, run, widths=recipe.method.calibrate)
        check_data(run, then, data)
        task = build_task(recipe, data, network)
    else:
        task, _ = build(recipe, data)
    # A run that was calibrated has its widths.
    if recipe.method.calibrate and (run is None or not run.widths.is_file()):
        calibrate_task(task, data)
    return task


def _setup(task: Task, balance: float) -> Setup:
    if task.every_step:
        # For good: nothing else is done with this network.
        task.model.network.readout = "sequence"  # type: ignore[assignment]
        task.model.taps.every_step = True
    return Setup(task.model, partial(task.compute_loss, branch_weight=balance))


def _remedies(recipe: Recipe, setup: Setup, seen: list[Batch]) -> list[Remedy]:
    # Surrogates are fitted to gradients through time, which rates do not have.
    found = neuron_remedies(setup, seen) if calibrates(recipe.method.gradient) else []
    if not recipe.network.accepts("make_neuron"):
        # No entry changes neurons that the network brings.
        found = [replace(remedy, text=remedy.text.partition(" (--neuron.")[0]) for remedy in found]
    # Norms that start at the threshold would start at the new one: nothing but the scale changes.
    at_threshold = getattr(recipe.network, "norm", None) == "tdbn"
    return [remedy for remedy in found if not (at_threshold and remedy.group == "threshold")]


def _rebuilt(recipe: Recipe, data: Data, run: RunFolder | None) -> list[Remedy]:
    """Other entries of the recipe; a trained network can get other branches, but no other blocks."""

    def apply(made: Recipe) -> Callable[[], Setup]:
        def build_it() -> Setup:
            task = _task(made, data, run)
            return _setup(task, task.branch_weight(0, 1) if task.model.branches else 0.0)

        return build_it

    remedies = []
    for change in BRANCH_CHANGES if run is not None else (*BRANCH_CHANGES, *NETWORK_CHANGES):
        preset: list[Any] = []
        options = change.options()
        if change.group == "branches":
            preset = [EVOLUTIONARY[0] if run is None else EVOLUTIONARY_OF_RUN[0]]
            options = f"{EVOLUTIONARY[1] if run is None else EVOLUTIONARY_OF_RUN[1]} {options}"
        try:
            made = changed(recipe, *preset, change.entries)
        except ValueError:
            # The network does not have it, or it contradicts the recipe's method.
            continue
        if made != recipe:
            remedies.append(Remedy(change.group, f"{change.text} ({options})", apply(made)))
    return remedies


def write(found: Gradients, folder: Path) -> None:
    """Write ``gradients.csv``, ``gradients.png`` and ``layers.csv``.

    Raises:
        ValueError: the folder holds a run, whose files these would replace.
    """
    _refuse_run(folder)
    rows = [
        {"layer": layer} | {name: report.rms[layer] for name, report in found.reports.items()}
        for layer in found.reports["without"].rms
    ]
    write_csv(folder / "gradients.csv", rows)
    write_csv(folder / "layers.csv", layer_rows(found.diagnosis.layers))
    plots.gradient_reports(
        {found.names[key]: report.rms for key, report in found.reports.items()},
        {found.names[key]: report.first for key, report in found.reports.items()},
        folder / "gradients.png",
    )


def _refuse_run(folder: Path) -> None:
    if RunFolder(folder).is_run:
        raise ValueError(
            f"{folder} holds a run, whose gradients.csv and layers.csv these would replace: name another folder"
        )


def run(options: argparse.Namespace) -> int:
    """Measure, print tables, verdict and tips, and write the files.

    Raises:
        ValueError: the folder holds a run, or a run's recipe and another are both named.
    """
    at_least_one(options, "batches")
    folder, place = Path(options.out), None if options.run is None else RunFolder(options.run)
    _refuse_run(folder)
    if place is not None and options.layers:
        raise ValueError("--run brings its own recipe: leave --config and --preset out, or --run")
    recipe = options.recipe if place is None else run_recipe(place, options.overrides)
    found = gradients(recipe, options.batches, place)
    write(found, folder)
    if recipe.unused_neuron:
        print(recipe.unused_neuron)
    print(f"{recipe}; {found.images} samples; gradient RMS of the weights:\n")
    cells = []
    for layer, without in found.reports["without"].rms.items():
        values = [report.rms[layer] for report in found.reports.values()]
        ratio = [f"{value / without:.2f}" if without else "-" for value in values[1:]]
        cells.append([layer, *(f"{value:.3e}" for value in values), *ratio])
    print(markdown_table(["layer", *found.reports, *(["with / without"] * ("with" in found.reports))], cells))
    for key, report in found.reports.items():
        print(f"\n{found.names[key]}: first layer / last = {report.ratio:.3g}", end="")
    print("\n\nspiking layers, as the recipe trains them:\n")
    print(layer_table(found.diagnosis.layers))
    print(f"\n{LAYER_TABLE_LEGEND}")
    print(f"\n{found.diagnosis}")
    others = [judge(layers).factor for layers in found.diagnosis.examination.batches[1:]]
    if others:
        print(f"on {len(others)} more: {', '.join(f'{factor:.3g}' for factor in others)}")
    if found.agreement is not None:
        agreement = f"{found.agreement:.2f} (1: signal, 0: noise)"
        print(f"first layer's gradient, cosine between {1 + len(others)} batches: {agreement}")
    print(f"\nwritten: gradients.csv, gradients.png and layers.csv in {folder}")
    return 0
