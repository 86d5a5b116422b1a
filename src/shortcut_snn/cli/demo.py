"""``shortcut-snn demo``: train one deep network without and with the method, and compare both."""

import argparse
import shutil
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from .. import plots
from ..recipes import recipe_of
from ..training import Metric, RunFolder
from ._output import print_line
from .compare import Plan, Variant, compare
from .report import read_rows

BASELINE, METHOD = "baseline", "initialised"
INTRODUCTION = f"""A deep network, trained twice on 1,797 images of digits: 19 spiking layers without skip connections.
  {BASELINE}        as spiking networks are commonly trained
  {METHOD}   norms and surrogates set so that every layer passes on its input and its gradient
Both have the optimizer and the learning rate that suit both best. Kernels are compiled first, once: about 15 seconds.
"""
POLL_SECONDS = 0.3


def run(options: argparse.Namespace) -> int:
    """Train both, draw the figure and print the result."""
    changes = {} if options.epochs is None else {"training": {"epochs": options.epochs}}
    variants = (
        Variant(BASELINE, recipe_of("digits-deep", "vanilla", changes)),
        Variant(METHOD, recipe_of("digits-deep", "initialised", changes)),
    )
    folder = Path(options.out)
    runs = {variant.label: RunFolder(folder / variant.folder / "seed0") for variant in variants}
    print_line(INTRODUCTION)
    with _printing_epochs(runs, variants[0].recipe.training.epochs):
        compare(Plan(variants, seeds=(0,)), folder, jobs=2, log=_print_failures)
    _draw(runs, folder / "demo.png")
    # `make demo` installs the command into an environment that is not on the PATH.
    program = "shortcut-snn" if shutil.which("shortcut-snn") else f"{sys.executable} -m shortcut_snn"
    print_line(f"\n{_summary(runs)}\n\nSee {folder / 'demo.png'}; `{program} report {folder}` makes a page of it.")
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


def _draw(runs: Mapping[str, RunFolder], path: Path) -> None:
    """Draw the accuracy by epoch, and the gradient by layer in the first epoch relative to the last layer's."""
    accuracies = {label: [100 * value for value in _accuracies(run)] for label, run in runs.items()}
    gradients = {}
    for label, run in runs.items():
        rms = {name: value for name, value in read_rows(run.table("gradients"))[0].items() if name != "epoch"}
        gradients[label] = [value / list(rms.values())[-1] for value in rms.values()]
    panels = [
        plots.Panel(
            "accuracy on validation data, %",
            "epoch",
            {label: [(range(1, len(values) + 1), values)] for label, values in accuracies.items()},
            chance=100 * runs[METHOD].read_result()["chance"],
        ),
        plots.Panel(
            "gradient by layer in the first epoch (last layer = 1)",
            "layer",
            {label: [(range(1, len(values) + 1), values)] for label, values in gradients.items()},
            log=True,
            layers=list(rms),
        ),
    ]
    plots.method_panels(panels, path)


def _summary(runs: Mapping[str, RunFolder]) -> str:
    """Return a few sentences about the results."""
    results = {label: run.read_result() for label, run in runs.items()}
    metric = Metric.of(results[METHOD])
    accuracy = {label: metric.value_of(result, "last") for label, result in results.items()}
    ratio = {label: result["gradient_ratio_first_epoch"] or 0 for label, result in results.items()}
    extra = round(100 * (results[METHOD]["seconds_per_epoch"] / results[BASELINE]["seconds_per_epoch"] - 1))
    return "\n".join(
        [
            f"The baseline recognises {accuracy[BASELINE]:.0f} % of the test images, the network with branches "
            f"{accuracy[METHOD]:.0f} %; chance is {100 * results[METHOD]['chance']:.0f} %.",
            f"In the backward pass of the first epoch the gradient grew {ratio[BASELINE]:.2g}-fold in the baseline and "
            f"{ratio[METHOD]:.2g}-fold in the other, whose branches carry it to each layer. "
            f"That took {f'{extra} % more time' if extra > 0 else 'no more time'}.",
            f"The branches are gone now: {runs[METHOD].network('last')} is the same network without them.",
        ]
    )
