"""Anytime inference with the networks that come with the package, on halves of their test data.

Their runs had no validation data. So the thresholds are set on a random half of the test data and tested on the other
half, for several halves::

    python -m research.studies.anytime nmnist-small=nmnist_small.npz cifar10-resnet18=cifar10_32.npz
"""

import argparse
import json
import statistics
from typing import Any

import torch

from shortcut_snn import load
from shortcut_snn._utils.markdown import markdown_table
from shortcut_snn.cli.anytime import measure_exits, milliseconds, single_exit
from shortcut_snn.deploy.anytime import Measure, all_logits, calibrate_logits, leave
from shortcut_snn.deploy.registry import TRAINED
from shortcut_snn.energy.report import with_unit
from shortcut_snn.recipes.building import load_data
from shortcut_snn.recipes.entries import from_dict

COLUMNS = (
    "network", "T", "measure", "accuracy", "change", "worst class", "time steps", "with memory", "ms, 1", "ms, 64",
)  # fmt: skip
MEASURES: tuple[Measure, ...] = ("confidence", "gap", "entropy")


def study(name: str, path: str | None, drop: float, halves: int, samples: int) -> list[list[str]]:
    """Return rows of the table of a network: whole, and with exits by each measure."""
    network = load(name)
    entries = json.loads((TRAINED / name / "card.json").read_text(encoding="utf-8"))["recipe"]
    if path:
        entries["data"]["root"] = path
    data: Any = load_data(from_dict(entries))
    batch, _ = data.sample(samples)
    logits, labels = all_logits(network, network.exit_runner, data.loaders(0).test)
    right = logits.argmax(-1) == labels
    exits = calibrate_logits(logits, labels, network.exit_runner.exits, drop)
    rows = []
    for measure in (None, *MEASURES):
        changes, worst, steps, energies = [], [], [], []
        for seed in range(halves):
            order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
            first, second = order[: len(order) // 2], order[len(order) // 2 :]
            if measure is None:
                exits = single_exit(exits, len(exits.exits) - 1)
            else:
                exits = calibrate_logits(logits[:, first], labels[first], network.exit_runner.exits, drop, measure)
            at = leave(logits[:, second], exits)
            change = right[:, second].gather(0, at[None])[0].double() - right[-1, second].double()
            changes.append(100 * float(change.mean()))
            classes = labels[second]
            worst.append(100 * min(float(change[classes == each].mean()) for each in classes.unique()))
            steps.append(float(torch.tensor([step for step, _ in exits.exits])[at].double().mean()))
            energies.append(measure_exits(network, exits, data.test.fetch(second[:samples])).total_energy)
        times = [milliseconds(network, exits, batch, size) for size in (1, 64)]
        accuracy = 100 * float(right[-1].double().mean()) + statistics.mean(changes)
        spread = f"{statistics.mean(changes):+.2f} ± {statistics.stdev(changes):.2f}"
        row = [name, str(network.spec.time_steps), measure or "whole network", f"{accuracy:.2f} %", spread]
        row += [f"{statistics.mean(worst):+.1f}", f"{statistics.mean(steps):.2f}", with_unit(statistics.mean(energies))]
        rows.append([*row, *(f"{each:.2f}" for each in times)])
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+", help="NAME, or NAME=FILE of its data")
    parser.add_argument("--drop", type=float, default=0.005)
    parser.add_argument("--halves", type=int, default=10)
    parser.add_argument("--samples", type=int, default=256, help="test samples for time, and of each half for energy")
    options = parser.parse_args()
    rows = []
    for each in options.networks:
        name, _, path = each.partition("=")
        rows += study(name, path or None, options.drop, options.halves, options.samples)
    print(markdown_table(COLUMNS, rows))


if __name__ == "__main__":
    main()
