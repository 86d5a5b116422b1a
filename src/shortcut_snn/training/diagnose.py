"""``shortcut-snn gradients``: each layer's gradient with and without the method (paper, figure 2)."""

from pathlib import Path

from ..analysis import plots
from ..analysis.gradients import GradientReport, measure
from ..data import load, loaders
from ..deploy.weights import load_into, read_network
from ..files import write_csv
from . import build
from .evaluate import FILES
from .methods import KINDS
from .recipe import Recipe
from .report import table
from .run import seed_everything


def diagnose(recipe: Recipe, folder: Path, run: Path | None = None) -> dict[str, GradientReport]:
    """Measure one batch, print the table, and write ``gradients.csv`` and ``gradients.png``.

    Args:
        recipe: data, network and method; lambda is the schedule's at the start of training.
        folder: where the files go.
        run: take this run's trained weights; by default the network is new, as at the start of training.

    Returns:
        The reports by name: ``"without"`` and ``"with"``.
    """
    if not KINDS[recipe.method.name].branches:
        raise ValueError(
            f"{recipe.method.name} has no branches to compare with; use --method.name evolutionary or shortcut"
        )
    data = load(recipe.data, recipe.network.time_steps)
    seed_everything(recipe)
    module = build.module(recipe, data)
    if run is not None:
        path = run / FILES["last"]
        load_into(module.model.network, read_network(path)[0], path)
    images, labels = next(iter(loaders(data, recipe.data, recipe.train.seed).train))
    weight = module.balance(0, 1)
    prepared = module.prepare(images)
    reports = {
        "without": measure(module.model, prepared, labels, module.objective, 0.0),
        "with": measure(module.model, prepared, labels, module.objective, weight),
    }
    pairs = [(name, reports["without"].rms[name], reports["with"].rms[name]) for name in reports["without"].rms]
    write_csv(folder / "gradients.csv", [dict(zip(("layer", "without", "with"), pair, strict=True)) for pair in pairs])
    names = {"without": "without the method", "with": f"{recipe.method.name}, lambda {weight:g}"}
    plots.gradient_reports(
        {names[key]: report.rms for key, report in reports.items()},
        {names[key]: report.first for key, report in reports.items()},
        folder / "gradients.png",
    )
    print(f"{recipe.network.name}, {len(labels)} images; gradient RMS of the weights:\n")
    cells = [
        [layer, f"{without:.3e}", f"{with_:.3e}", f"{with_ / without:.2f}" if without else "-"]
        for layer, without, with_ in pairs
    ]
    print(table(["layer", "without", "with", "with / without"], cells))
    for key, report in reports.items():
        print(f"\n{names[key]}: first layer / last = {report.ratio:.3g} ({_verdict(report.ratio)})", end="")
    print(f"\n\nwritten: {folder / 'gradients.csv'} and {folder / 'gradients.png'}")
    return reports


def _verdict(ratio: float) -> str:
    if ratio != ratio:
        return "no gradient at all"
    if ratio < 0.1:
        return "it vanishes towards the input"
    return "it explodes towards the input" if ratio > 10 else "within a factor of ten"
