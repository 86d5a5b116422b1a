"""``shortcut-snn gradients``: each layer with and without the method (paper, figure 2), a verdict, and what helps."""

import itertools
from pathlib import Path

import torch

from ..analysis import plots
from ..analysis.calibrate import set_widths
from ..analysis.diagnosis import Diagnosis, of_setup
from ..analysis.gradients import GradientReport, measure, signal
from ..analysis.layers import Batch
from ..analysis.remedies import of_neurons
from ..analysis.tips import Remedy, Setup
from ..analysis.verdict import judge
from ..data import ImageData, load, loaders
from ..deploy.weights import load_into, read_network
from ..files import write_csv
from ..method import ShortcutOutput
from . import build
from .calibration import calibrate_module, widths_in
from .evaluate import FILES
from .layer_rows import layer_rows, layer_table
from .methods import resolved
from .module import ShortcutModule
from .recipe import Recipe
from .recipe_io import changed
from .report import table
from .resume import RECIPE
from .run import seed_everything

# What can be changed about a network besides its neurons, by group.
REBUILDS: dict[str, list[dict[str, object]]] = {
    "branches": [
        {"method.name": "evolutionary", "method.taps": taps, "method.initial": initial}
        for taps in ("stages", "blocks")
        for initial in (0.25, 1.0)
    ],
    "block": [{"network.block": block} for block in ("basic", "sew", "ms")],
    "norm": [{"network.norm": norm} for norm in ("bn", "tdbn")],
}


def diagnose(recipe: Recipe, folder: Path, run: Path | None = None, batches: int = 2) -> dict[str, GradientReport]:
    """Measure, print tables, verdict and tips, and write ``gradients.csv``, ``gradients.png`` and ``layers.csv``.

    Args:
        recipe: data, network and method; lambda is the schedule's at the start of training.
        folder: where the files go.
        run: take this run's trained weights; by default the network is new, as at the start of training.
        batches: how many to look at; figures are the first one's, and a tip has to help on all.

    Returns:
        The reports of the weights' gradients by name: ``"without"`` and, if the method has branches, ``"with"``.

    Raises:
        ValueError: a recipe that makes no sense, data or files that cannot be used.
    """
    if (folder / RECIPE).is_file():
        raise ValueError(
            f"{folder} holds a run, whose gradients.csv and layers.csv these would replace: name another folder"
        )
    if batches < 1:
        raise ValueError(f"--batches must be at least 1, got {batches}")
    data = load(recipe.data, recipe.network.time_steps)
    module = _module(recipe, data, run)
    stream = itertools.islice(iter(loaders(data, recipe.data, recipe.train.seed).train), batches)
    seen = [(module.prepare(images), labels) for images, labels in stream]
    weight = module.balance(0, 1)
    names = {"without": "without the method", "with": f"{recipe.method.name}, lambda {weight:g}"}
    if not module.model.branches:
        del names["with"]
    reports = {
        name: measure(module.model, *seen[0], module.objective, weight if name == "with" else 0.0) for name in names
    }
    # The first layer's, as the recipe trains: does another batch give the same direction?
    firsts = [measure(module.model, *batch, module.objective, weight).first for batch in seen]
    setup = _setup(module, weight)
    found = of_setup(setup, seen, lambda: _remedies(recipe, setup, seen) + _rebuilt(recipe, data, run))
    _write(reports, names, found, folder)
    _tell(recipe, reports, names, found, seen, folder)
    if len(firsts) > 1:
        print(
            f"first layer's gradient, cosine between {len(firsts)} batches: {signal(firsts):.2f} (1: signal, 0: noise)"
        )
    print(f"\nwritten: gradients.csv, gradients.png and layers.csv in {folder}")
    return reports


def _module(recipe: Recipe, data: ImageData, run: Path | None) -> ShortcutModule:
    seed_everything(recipe)
    module = build.module(recipe, data)
    if module.every_step:
        module.model.network.readout = "sequence"  # type: ignore[assignment]
    if run is None:
        calibrate_module(module, recipe, data)
        return module
    path = run / FILES["last"]
    state, about = read_network(path)
    load_into(module.model.network, state, path)
    set_widths(module.model.network, widths_in(about))
    return module


def _setup(module: ShortcutModule, balance: float) -> Setup:
    def loss(output: ShortcutOutput, labels: torch.Tensor) -> torch.Tensor:
        return module.objective(output, labels, balance)

    return Setup(module.model, loss, module.model.network)


def _remedies(recipe: Recipe, setup: Setup, seen: list[Batch]) -> list[Remedy]:
    # Surrogates are fitted to gradients through time, which rates do not have.
    return [] if resolved(recipe).neuron.gradient == "rate" else of_neurons(setup, seen)


def _rebuilt(recipe: Recipe, data: ImageData, run: Path | None) -> list[Remedy]:
    """Other entries of the recipe; a trained network can get other branches, but no other blocks."""

    def apply(made: Recipe) -> Setup:
        module = _module(made, data, run)
        return _setup(module, module.balance(0, 1))

    found = []
    for group, options in REBUILDS.items():
        if group != "branches" and (run is not None or not recipe.network.name.startswith("resnet")):
            continue
        for changes in options:
            try:
                made = changed(recipe, changes)
            except ValueError:
                # It contradicts the recipe's method, so it is no way out of it.
                continue
            text = " ".join(f"--{key} {value}" for key, value in changes.items())
            if made != recipe:
                found.append(Remedy(group, text, lambda made=made: apply(made)))  # type: ignore[misc]
    return found


def _write(reports: dict[str, GradientReport], names: dict[str, str], found: Diagnosis, folder: Path) -> None:
    layers = reports["without"].rms
    rows = [{"layer": layer} | {name: report.rms[layer] for name, report in reports.items()} for layer in layers]
    write_csv(folder / "gradients.csv", rows)
    write_csv(folder / "layers.csv", layer_rows(found.layers))
    plots.gradient_reports(
        {names[key]: report.rms for key, report in reports.items()},
        {names[key]: report.first for key, report in reports.items()},
        folder / "gradients.png",
    )


def _tell(
    recipe: Recipe,
    reports: dict[str, GradientReport],
    names: dict[str, str],
    found: Diagnosis,
    seen: list[Batch],
    folder: Path,
) -> None:
    print(f"{recipe.network.name}, {len(seen[0][1])} images; gradient RMS of the weights:\n")
    cells = []
    for layer, without in reports["without"].rms.items():
        values = [report.rms[layer] for report in reports.values()]
        ratio = [f"{value / without:.2f}" if without else "-" for value in values[1:]]
        cells.append([layer, *(f"{value:.3e}" for value in values), *ratio])
    columns = ["layer", *reports, *(["with / without"] if "with" in reports else [])]
    print(table(columns, cells))
    for key, report in reports.items():
        print(f"\n{names[key]}: first layer / last = {report.ratio:.3g}", end="")
    print("\n\nspiking layers, as the recipe trains them:\n")
    print(layer_table(found.layers))
    print(f"\n{found}")
    others = [judge(layers).factor for layers in found.examination.batches[1:]]
    if others:
        print(f"on {len(others)} more: {', '.join(f'{factor:.3g}' for factor in others)}")
