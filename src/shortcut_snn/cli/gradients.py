"""``shortcut-snn gradients``: the gradient of each layer with and without the method (paper, fig. 2), and remedies."""

import argparse
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from .. import plots
from .._utils.files import remove_strays, write_csv
from .._utils.markdown import markdown_table
from .._utils.random_state import preserve_random_state
from ..data import Data
from ..diagnosis import Diagnosis, judge
from ..diagnosis.diagnosis import Remedy, diagnose_setup, neuron_remedies
from ..measurement import LayerReport, measure_gradients
from ..measurement.gradients import GradientReport
from ..measurement.layers import Batch
from ..measurement.setup import Setup
from ..recipes import Recipe, build, changed
from ..recipes.building import build_task, load_data
from ..recipes.runs import check_data, load_network
from ..training import RunFolder, Task
from ..training.run import initialise_task, load_start
from ..training.tables import LAYER_TABLE_LEGEND, layer_rows, layer_table
from ..training.trainer import seeded
from ._terminal import waiting

CHANGES: tuple[tuple[str, str, Any], ...] = (
    ("preset", "a loss for a branch at every block (--preset loss_sum)", "loss_sum"),
    ("preset", "norms and surrogates set by measurement (--preset initialised)", "initialised"),
    ("block", "basic blocks (--network.block basic)", {"network": {"block": "basic"}}),
    ("block", "sew blocks (--network.block sew)", {"network": {"block": "sew"}}),
    ("block", "ms blocks (--network.block ms)", {"network": {"block": "ms"}}),
    ("norm", "bn for normalisation (--network.norm bn)", {"network": {"norm": "bn"}}),
    ("norm", "tdbn for normalisation (--network.norm tdbn)", {"network": {"norm": "tdbn"}}),
)
"""Remedies of a recipe: group, text and preset or entries. Only the first is for a network that has been trained."""


def run(options: argparse.Namespace) -> int:
    """Measure the gradients; print tables, verdict and remedies; write the files."""
    folder, run = Path(options.out), None if options.run is None else RunFolder(options.run)
    if RunFolder(folder).is_run:
        raise ValueError(f"{folder} holds a run, and gradients would replace its gradients.csv: name another folder")
    gradients = measure(options.recipe, options.batches, run)
    _write(gradients, options.recipe, folder)
    _print(gradients, options.recipe)
    print(f"\nwritten: gradients.csv, gradients.png and layers.csv in {folder}")
    return 0


@dataclass(frozen=True)
class Gradients:
    """The gradients of a recipe's network.

    Args:
        reports: ``"without"``, the gradients of the weights without the method, and ``"with"`` if the recipe has one.
        diagnosis: layers, verdict and remedies, with the recipe's method.
        samples: number of samples in the first batch, from which the reports are.
    """

    reports: dict[str, GradientReport]
    diagnosis: Diagnosis
    samples: int


def measure(recipe: Recipe, batches: int = 2, run: RunFolder | None = None) -> Gradients:
    """Measure each layer's gradient with and without a recipe's method, of a new network or of a run's trained one."""
    with seeded(recipe.training.seed, recipe.training.threads):
        source, task, inputs = _prepare(recipe, batches, run)
        vanilla = changed(recipe, "vanilla")
        report = _report(task, inputs[0])
        reports = {"without": report}
        if recipe.method != vanilla.method:
            reports = {"without": _report(source.task(vanilla), inputs[0]), "with": report}
        setup = _setup(task)
        diagnosis = diagnose_setup(setup, inputs, lambda: _counted(remedies_for(recipe, source, setup, inputs)))
    return Gradients(reports, diagnosis, task.count_samples(inputs[0][1]))


def examine_new_network(recipe: Recipe) -> list[LayerReport]:
    """Examine the layers of a recipe's new network on the first training batch, with its method and initialisation."""
    with seeded(recipe.training.seed, recipe.training.threads):
        _, task, inputs = _prepare(recipe, 1, None)
        return list(_setup(task).examine(inputs).layers)


@dataclass(frozen=True)
class Source:
    """The data of all measurements, and the run whose weights they use, if any."""

    data: Data
    run: RunFolder | None

    def task(self, recipe: Recipe) -> Task:
        """Return the task of a recipe as it starts to train, or with the weights of the run."""
        if self.run is None:
            task, _ = build(recipe, self.data)
            if recipe.training.start_from is not None:
                load_start(task, recipe.training.start_from)
            elif recipe.method.initialise:
                initialise_task(task, self.data)
        else:
            # The same branches in every task.
            with preserve_random_state(recipe.training.seed):
                # Those of the run that it started from are not the method's.
                has_surrogates = recipe.method.initialise or recipe.training.start_from is not None
                network, description = load_network(recipe, self.run, surrogates=has_surrogates)
                check_data(self.run, description, self.data)
                task = build_task(recipe, self.data, network)
            if recipe.method.initialise and not self.run.surrogates.is_file():
                raise ValueError(
                    f"the network of {self.run} is trained: leave method.initialise out, or leave --run out"
                )
        return task

    def setup(self, recipe: Recipe) -> Setup:
        """Return the network of a recipe and its loss at the first step."""
        return _setup(self.task(recipe))


def _prepare(recipe: Recipe, batches: int, run: RunFolder | None) -> tuple[Source, Task, list[Batch]]:
    """Return the data of a recipe, its task, and its first training batches."""
    source = Source(load_data(recipe), run)
    task = source.task(recipe)
    stream = itertools.islice(source.data.loaders(recipe.training.seed).train, batches)
    return source, task, [task.prepare_batch(batch) for batch in stream]


def _report(task: Task, batch: Batch) -> GradientReport:
    return measure_gradients(task.model, *batch, task.model.branch_weight(0, 1), task.criterion)


def _setup(task: Task) -> Setup:
    branch_weight = task.model.branch_weight(0, 1)
    return Setup(task.model, partial(task.model.weighted_loss, branch_weight=branch_weight, criterion=task.criterion))


def remedies_for(recipe: Recipe, source: Source, setup: Setup, batches: Sequence[Batch]) -> list[Remedy]:
    """Return changes of the neurons, then changes of the recipe, each with options to paste."""
    # An initialised recipe sets the surrogates itself, and the preset is what a recipe can name.
    excluded = {"initialise"} | ({"width"} if recipe.method.initialise else set())
    remedies = [remedy for remedy in neuron_remedies(setup, batches) if remedy.group not in excluded]
    if not recipe.network.accepts("make_neuron"):
        # No entry of a recipe changes the neurons of such a network.
        remedies = [replace(remedy, text=remedy.text.partition(" (--neuron.")[0]) for remedy in remedies]
    return remedies + recipe_remedies(recipe, source)


def _counted(remedies: Sequence[Remedy]) -> Iterator[Remedy]:
    """Tell a terminal which remedy is measured, since one of a large network takes a minute."""
    for number, remedy in enumerate(remedies, 1):
        with waiting(f"measuring remedy {number} of {len(remedies)}"):
            yield remedy


def recipe_remedies(recipe: Recipe, source: Source) -> list[Remedy]:
    """Return the remedies that a recipe has: other methods, and changes that rebuild the network."""
    remedies = []
    for group, text, layer in CHANGES if source.run is None else CHANGES[:1]:
        try:
            changed_recipe = changed(recipe, layer)
        except ValueError:
            # The network has no such option, or it contradicts the method.
            continue
        if changed_recipe != recipe:
            remedies.append(Remedy(group, text, partial(source.setup, changed_recipe)))
    return remedies


def _write(gradients: Gradients, recipe: Recipe, folder: Path) -> None:
    """Write ``gradients.csv``, ``layers.csv`` and ``gradients.png``."""
    remove_strays(folder)
    reports, titles = gradients.reports, {"without": "without the method", "with": str(recipe.method)}
    rows = [
        {"layer": layer} | {name: report.rms[layer] for name, report in reports.items()}
        for layer in reports["without"].rms
    ]
    write_csv(folder / "gradients.csv", rows)
    write_csv(folder / "layers.csv", layer_rows(gradients.diagnosis.layers))
    plots.gradient_reports({titles[name]: report for name, report in reports.items()}, folder / "gradients.png")


def _print(gradients: Gradients, recipe: Recipe) -> None:
    """Print the gradients of the weights, the layers as trained, the verdict and the remedies."""
    if recipe.unused_neuron:
        print(recipe.unused_neuron)
    print(f"{recipe}; {gradients.samples} samples; gradient RMS of the weights:\n")
    print(_gradient_table(gradients.reports))
    left_out = [name for name in ("penalty", "weight_bits") if getattr(recipe.method, name) is not None]
    if left_out:
        print(f"\nmeasured without method.{' and method.'.join(left_out)}")
    print("\nspiking layers, as the recipe trains them:\n")
    print(layer_table(gradients.diagnosis.layers))
    print(f"\n{LAYER_TABLE_LEGEND}")
    print(f"\n{gradients.diagnosis}")
    factors = [judge(layers).factor for layers in gradients.diagnosis.examination.batches[1:]]
    if factors:
        ratios = ", ".join(f"{factor:.3g}" for factor in factors)
        print(f"gradient, first layer / last, on other batches: {ratios}")


def _gradient_table(reports: dict[str, GradientReport]) -> str:
    rows = []
    for layer, without in reports["without"].rms.items():
        values = [report.rms[layer] for report in reports.values()]
        ratios = [f"{value / without:.2f}" if without else "-" for value in values[1:]]
        rows.append([layer, *(f"{value:.3e}" for value in values), *ratios])
    return markdown_table(["layer", *reports, *(["with / without"] if "with" in reports else [])], rows)
