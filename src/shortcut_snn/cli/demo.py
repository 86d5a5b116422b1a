"""``shortcut-snn demo``: train one deep network without and with the method, and compare both."""

import argparse
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import mean

from .. import plots
from ..recipes import recipe_of
from ..training import Metric, RunFolder
from ._output import print_line
from ._parser import at_least_one
from .compare import Plan, Variant, compare
from .gradients import measure_at_start
from .report import read_rows

BASELINE, METHOD = "baseline", "with branches"
INTRODUCTION = f"""A deep network, trained twice on 1,797 images of digits: 19 spiking layers without skip connections.
  {BASELINE}        as spiking networks are commonly trained
  {METHOD}   auxiliary branches that fade out, and surrogate gradients fitted to each layer
Both have the optimizer and the learning rate that suit both best. Kernels are compiled first, once: about 15 seconds.
"""
POLL_SECONDS = 0.3


def run(options: argparse.Namespace) -> int:
    """Train both, draw the figure and print the result."""
    at_least_one(options, "seeds")
    changes = {} if options.epochs is None else {"training": {"epochs": options.epochs}}
    variants = (
        Variant(BASELINE, recipe_of("digits-deep", "vanilla", changes)),
        Variant(METHOD, recipe_of("digits-deep", "calibrated", changes)),
    )
    plan, folder = Plan(variants, tuple(range(options.seeds))), Path(options.out)
    print_line(INTRODUCTION)
    with _printing_epochs(plan, folder):
        compare(plan, folder, jobs=2, log=_print_failures)
    print_line("\n" + _summary(plan, folder))
    return 0


def _print_failures(line: str) -> None:
    if line.startswith(("FAILED", "stop")):
        print_line(line)


def _runs(plan: Plan, folder: Path) -> dict[str, list[RunFolder]]:
    """Return the runs of each variant, one per seed."""
    return {
        variant.label: [RunFolder(folder / variant.folder / f"seed{seed}") for seed in plan.seeds]
        for variant in plan.variants
    }


@contextmanager
def _printing_epochs(plan: Plan, folder: Path) -> Iterator[None]:
    """Print the accuracies of the first seed side by side, epoch by epoch, while both train."""
    runs = {label: seeds[0] for label, seeds in _runs(plan, folder).items()}
    epochs = plan.variants[0].recipe.training.epochs
    finished = threading.Event()

    def watch() -> None:
        printed, last_round = 0, False
        while not last_round:
            # The last round, after both have finished, prints the last epochs.
            last_round = finished.wait(POLL_SECONDS)
            accuracies = {label: _accuracies(run) for label, run in runs.items()}
            for epoch in range(printed, min(map(len, accuracies.values()))):
                bars = [
                    f"{label} {100 * values[epoch]:5.1f} % {'#' * round(20 * values[epoch]):20}"
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


def _accuracies(run: RunFolder) -> list[float]:
    return [row["validation_accuracy"] for row in read_rows(run.table("metrics"))]


def _accuracy_curve(run: RunFolder) -> tuple[list[int], list[float]]:
    """Return the epochs of a run and its accuracy in per cent after each."""
    percents = [100 * value for value in _accuracies(run)]
    return list(range(1, len(percents) + 1)), percents


def _relative_to_last(rms: Mapping[str, float]) -> tuple[list[int], list[float]]:
    """Return the numbers of the layers and their gradient, relative to that of the last layer."""
    values = list(rms.values())
    return list(range(1, len(values) + 1)), [value / values[-1] for value in values]


def _summary(plan: Plan, folder: Path) -> str:
    """Draw the figure and return a few sentences about the result."""
    runs = _runs(plan, folder)
    results = {label: [run.read_result() for run in seeds] for label, seeds in runs.items()}
    gradients = {variant.label: measure_at_start(variant.recipe) for variant in plan.variants}
    chance = 100 * results[METHOD][0]["chance"]
    panels = [
        plots.Panel(
            "accuracy on validation data, %",
            "epoch",
            {label: [_accuracy_curve(run) for run in seeds] for label, seeds in runs.items()},
            chance=chance,
        ),
        plots.Panel(
            "gradient by layer before training (last layer = 1)",
            "layer",
            {label: [_relative_to_last(report.rms)] for label, report in gradients.items()},
            log=True,
            layers=list(gradients[METHOD].rms),
        ),
    ]
    plots.method_panels(panels, folder / "demo.png")
    metric = Metric.of(results[METHOD][0])
    accuracy = {label: mean(metric.value_of(each, "last") for each in seeds) for label, seeds in results.items()}
    seconds = {label: mean(each["seconds_per_epoch"] for each in seeds) for label, seeds in results.items()}
    extra = round(100 * (seconds[METHOD] / seconds[BASELINE] - 1))
    return "\n".join(
        [
            f"The baseline recognises {accuracy[BASELINE]:.0f} % of the test images, the network with branches "
            f"{accuracy[METHOD]:.0f} %; chance is {chance:.0f} %.",
            f"In the backward pass the gradient grew {gradients[BASELINE].ratio:.2g}-fold in the baseline and "
            f"{gradients[METHOD].ratio:.2g}-fold in the other, whose branches carry it to each layer. "
            f"That took {f'{extra} % more time' if extra > 0 else 'no more time'}.",
            f"The branches are gone now: {runs[METHOD][0].network('last')} is the same network without them.",
            "",
            f"See {folder / 'demo.png'}; `shortcut-snn report {folder}` makes a page of it.",
        ]
    )
