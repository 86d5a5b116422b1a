"""``shortcut-snn demo``: one deep network trained twice, without help and with it, side by side."""

import argparse
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import mean

from ..diagnosis import plots
from ..recipes import recipe_of
from ..training import Metric, RunFolder
from ._output import tell
from ._parser import at_least_one
from .compare import Plan, Variant, compare
from .gradients import at_start
from .report import read_rows

HELP = "one deep network trained twice, without help and with it, in about a minute"
DESCRIPTION = (
    "Train 19 spiking layers without skip connections on scikit-learn's digits twice, side by side: as usual, and with "
    "the preset calibrated (auxiliary branches that fade out, and surrogate gradients fitted to each layer)."
)
WITHOUT, WITH = "without help", "with help"
INTRODUCTION = f"""A deep network, trained twice on 1,797 images of digits: 19 spiking layers without skip connections.
  {WITHOUT}   as spiking networks are commonly trained
  {WITH}      auxiliary branches that fade out, and surrogate gradients fitted to each layer
Both have the optimizer and the learning rate that suit both best. Kernels are compiled first, once: about 15 seconds.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--out", default="runs/demo", help="folder of the demo; created (default: runs/demo)")
    parser.add_argument("--seeds", type=int, default=1, help="how often, each time from other weights (default: once)")
    parser.add_argument("--epochs", type=int, help="how long (default: the recipe's)")


def run(options: argparse.Namespace) -> int:
    """Train both, draw the picture and say what came of it."""
    at_least_one(options, "seeds")
    changes = {} if options.epochs is None else {"training": {"epochs": options.epochs}}
    variants = (
        Variant(WITHOUT, recipe_of("digits-deep", "vanilla", changes)),
        Variant(WITH, recipe_of("digits-deep", "calibrated", changes)),
    )
    plan, folder = Plan(variants, tuple(range(options.seeds))), Path(options.out)
    tell(INTRODUCTION)
    with _watched(plan, folder):
        compare(plan, folder, jobs=2, log=_failures)
    tell("\n" + _told(plan, folder))
    return 0


def _failures(line: str) -> None:
    if line.startswith(("FAILED", "stop")):
        tell(line)


@contextmanager
def _watched(plan: Plan, folder: Path) -> Iterator[None]:
    """Print the accuracies of the first seed side by side as the epochs end."""
    places = [RunFolder(folder / variant.folder / f"seed{plan.seeds[0]}") for variant in plan.variants]
    epochs = plan.variants[0].recipe.training.epochs
    done = threading.Event()

    def watch() -> None:
        told, last = 0, False
        while not last:
            # Once more after the end, for the last epochs.
            last = done.wait(0.3)
            lines = [_accuracies(place) for place in places]
            for epoch in range(told, min(map(len, lines))):
                shown = "   ".join(
                    f"{variant.label} {100 * line[epoch]:5.1f} % {'#' * round(20 * line[epoch]):20}"
                    for variant, line in zip(plan.variants, lines, strict=True)
                )
                tell(f"epoch {epoch + 1:2}/{epochs}   {shown}".rstrip())
                told = epoch + 1

    watcher = threading.Thread(target=watch, name="watch epochs", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _accuracies(place: RunFolder) -> list[float]:
    return [row["validation_accuracy"] for row in read_rows(place.table("metrics"))]


def _curve(place: RunFolder) -> tuple[list[int], list[float]]:
    values = [100 * value for value in _accuracies(place)]
    return list(range(1, len(values) + 1)), values


def _relative_to_last(rms: Mapping[str, float]) -> tuple[list[int], list[float]]:
    values = list(rms.values())
    return list(range(1, len(values) + 1)), [value / values[-1] for value in values]


def _told(plan: Plan, folder: Path) -> str:
    """Draw the picture; return three sentences."""
    places = {
        variant.label: [RunFolder(folder / variant.folder / f"seed{seed}") for seed in plan.seeds]
        for variant in plan.variants
    }
    results = {label: [each.read_result() for each in runs] for label, runs in places.items()}
    metric, guessing = Metric.of(results[WITH][0]), 100 * results[WITH][0]["chance"]
    reached = {label: mean(metric.value_of(each, "last") for each in runs) for label, runs in results.items()}
    found = {variant.label: at_start(variant.recipe) for variant in plan.variants}
    panels = [
        plots.Panel(
            "accuracy on validation data, %",
            "epoch",
            {label: [_curve(place) for place in runs] for label, runs in places.items()},
            chance=guessing,
        ),
        plots.Panel(
            "gradient by layer before training (last layer = 1)",
            "layer",
            {label: [_relative_to_last(each.rms)] for label, each in found.items()},
            log=True,
            layers=list(found[WITH].rms),
        ),
    ]
    plots.method_panels(panels, folder / "demo.png")
    seconds = {label: mean(each["seconds_per_epoch"] for each in runs) for label, runs in results.items()}
    more = round(100 * (seconds[WITH] / seconds[WITHOUT] - 1))
    cost = f"{more} % more time" if more > 0 else "no more time"
    network = places[WITH][0].network("last")
    return "\n".join(
        [
            f"Without help the network recognises {reached[WITHOUT]:.0f} % of the test images, with help "
            f"{reached[WITH]:.0f} %; guessing gives {guessing:.0f} %.",
            f"Why: on its way back through the layers the gradient grew {found[WITHOUT].ratio:.2g}-fold without help, "
            f"{found[WITH].ratio:.2g}-fold with it, and branches carry it to each layer; that took {cost}.",
            f"The help is gone now: {network} is the same network, without a branch.",
            "",
            f"Look at {folder / 'demo.png'}; `shortcut-snn report {folder}` makes a page of it.",
        ]
    )
