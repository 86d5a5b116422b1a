"""``shortcut-snn demo``: train one deep network as it is, with the paper's branches, and from a measured start."""

import argparse
import shutil
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from .. import plots
from ..measurement.layers import chain
from ..recipes import Recipe, recipe_of
from ..training import RunFolder, read_rows
from ..training.tables import Metric
from ._terminal import print_line
from .compare import Plan, Variant, compare
from .gradients import examine_new_network

PRESETS = {"baseline": "vanilla", "branches": "evolutionary", "initialised": "initialised"}
"""The preset of each network of the demo."""
BASELINE, BRANCHES, METHOD = PRESETS
INTRODUCTION = f"""A spiking ResNet-34 with basic blocks, trained three times on 1,797 images of digits.
  {BASELINE}      as spiking networks are commonly initialised and trained
  {BRANCHES}      with the paper's branches: each brings the loss's gradient to a shallow layer, and decays to zero
  {METHOD}   from norms and surrogates set so that every block passes on its input and its gradient
All have the same data, optimizer and learning rate. Kernels are compiled once: about 15 seconds.
"""
POLL_SECONDS = 0.3


def run(options: argparse.Namespace) -> int:
    """Train all three, draw the figure and print the result."""
    changes = {} if options.epochs is None else {"training": {"epochs": options.epochs}}
    variants = tuple(Variant(label, recipe_of("digits-deep", preset, changes)) for label, preset in PRESETS.items())
    folder = Path(options.out)
    runs = {variant.label: RunFolder(folder / variant.folder / "seed0") for variant in variants}
    print_line(INTRODUCTION)
    with _printing_epochs(runs, variants[0].recipe.training.epochs):
        compare(Plan(variants, seeds=(0,)), folder, jobs=3, log=_print_failures)
    # Branches leave the new network as it is.
    kept = {variant.label: _kept_by_block(variant.recipe) for variant in variants if variant.label != BRANCHES}
    _draw(runs, kept, folder / "demo.png")
    # `make demo` installs the command into an environment that is not on the PATH.
    program = "shortcut-snn" if shutil.which("shortcut-snn") else f"{sys.executable} -m shortcut_snn"
    print_line(
        f"\n{_summary(runs, kept)}\n\nSee {folder / 'demo.png'}; `{program} report {folder}` makes a page of it."
    )
    return 0


def _print_failures(line: str) -> None:
    if line.startswith(("FAILED", "stop")):
        print_line(line)


@contextmanager
def _printing_epochs(runs: Mapping[str, RunFolder], epochs: int) -> Iterator[None]:
    """Print the accuracies of the runs side by side, epoch by epoch, while they train."""
    finished = threading.Event()

    def watch() -> None:
        printed, last_round = 0, False
        while not last_round:
            # The last round, after all have finished, prints the last epochs.
            last_round = finished.wait(POLL_SECONDS)
            accuracies = {label: _accuracies(run) for label, run in runs.items()}
            for epoch in range(printed, min(map(len, accuracies.values()))):
                bars = [
                    f"{label} {100 * values[epoch]:5.1f} % {'#' * round(12 * values[epoch]):12}"
                    for label, values in accuracies.items()
                ]
                print_line(f"epoch {epoch + 1:2}/{epochs}   {'   '.join(bars)}".rstrip())
                printed = epoch + 1

    watcher = threading.Thread(target=watch, name="watch epochs", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        finished.set()
        watcher.join()


def _kept_by_block(recipe: Recipe) -> dict[str, float]:
    """Return how much of the input is left after the stem and after each residual block of the new network."""
    kept = {report.layer: report.kept for report in chain(examine_new_network(recipe))}
    return {name.removesuffix(".spike2"): share for name, share in kept.items() if not name.endswith(".spike1")}


def _accuracies(run: RunFolder) -> list[float]:
    return [row["validation_accuracy"] for row in read_rows(run.table("metrics"))]


def _draw(runs: Mapping[str, RunFolder], kept: Mapping[str, Mapping[str, float]], path: Path) -> None:
    """Draw the accuracy by epoch, and how much of the input is left after every block before training."""
    accuracies = {label: [100 * value for value in _accuracies(run)] for label, run in runs.items()}
    shares = {label: [100 * share for share in layers.values()] for label, layers in kept.items()}
    panels = [
        plots.Panel(
            "accuracy on validation data, %",
            "epoch",
            {label: [(range(1, len(values) + 1), values)] for label, values in accuracies.items()},
            chance=100 * runs[METHOD].read_result()["chance"],
        ),
        plots.Panel(
            "share of the input that is left after a block, before training, %",
            "block",
            {label: [(range(1, len(values) + 1), values)] for label, values in shares.items()},
            layers=list(kept[METHOD]),
        ),
    ]
    plots.method_panels(panels, path)


def _summary(runs: Mapping[str, RunFolder], kept: Mapping[str, Mapping[str, float]]) -> str:
    """Return a few sentences about the results."""
    results = {label: run.read_result() for label, run in runs.items()}
    metric = Metric.of(results[METHOD])
    accuracy = {label: metric.value_of(result, "last") for label, result in results.items()}
    last = {label: 100 * list(layers.values())[-1] for label, layers in kept.items()}
    return "\n".join(
        [
            f"Of the test images {accuracy[BASELINE]:.0f} % are recognised by the baseline, {accuracy[BRANCHES]:.0f} % "
            f"with branches, {accuracy[METHOD]:.0f} % by the initialised network; chance is "
            f"{100 * results[METHOD]['chance']:.0f} %.",
            f"The baseline: before training, {last[BASELINE]:.0f} % of the input reaches its last block.",
            "The branches bring a gradient to shallow layers, but they do not bring the input to deep ones.",
            f"The measured initialisation: {last[METHOD]:.0f} % of the input reaches the last block.",
            "Layers, neurons and number of parameters are the same.",
            f"The trained network: {runs[METHOD].network('last')}",
        ]
    )
