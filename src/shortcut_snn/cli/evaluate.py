"""``shortcut-snn evaluate``: test a trained network again, from the files of its run alone."""

import argparse
import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch

from ..diagnosis.probe import probe
from ..recipes import open_run
from ..training import Metric, format_value, make_trainer, quiet_lightning

HELP = "test a trained network again"
DESCRIPTION = "Test a trained network again, from its run's folder."
RUN = True


@dataclass(frozen=True)
class Evaluation:
    """What a network does on a part of its data.

    Args:
        metrics: loss and the task's metrics.
        rates: spikes per neuron and time step, by layer, over all of it.
        metric: the task's.
    """

    metrics: dict[str, float]
    rates: dict[str, float]
    metric: Metric


def evaluate(
    folder: str | Path, weights: str = "last", split: str = "test", changes: dict[str, object] | None = None
) -> Evaluation:
    """Test a run's network.

    Args:
        folder: of the run.
        weights: ``"last"`` or ``"best"``.
        split: ``"test"`` or ``"validation"``.
        changes: entries to lay over the run's recipe, as where the data lies now.

    Raises:
        FileNotFoundError: no finished run there, or its data are gone.
        ValueError: damaged files, other data, or a part that the run does not have.
    """
    task, data, recipe = open_run(folder, weights, changes)
    loaders = data.loaders(recipe.training.seed)
    loader = loaders.test if split == "test" else loaders.validation
    if loader is None:
        raise ValueError(f"the run in {folder} has no {split} data")
    # One process: several would each start this program anew.
    # Weights are fp32, whatever they were trained in; there is no fp16 on a CPU.
    precision = recipe.training.precision
    precision = precision if precision != "fp16" or torch.cuda.is_available() else "fp32"
    alone = dataclasses.replace(recipe.training, devices=1, nodes=1, strategy="auto", precision=precision)
    with quiet_lightning(), probe(task.model.network, membrane=False) as tallies:
        found = make_trainer(alone).test(task, loader, verbose=False)[0]
    metrics = {name.removeprefix("test_"): float(value) for name, value in found.items()}
    rates = {name: tally.rate for name, tally in tallies.items()}
    return Evaluation(metrics, rates, Metric(task.metric, task.higher_is_better, task.fraction))


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--split", default="test", choices=["test", "validation"], help="which part of the data")


def run(options: argparse.Namespace) -> int:
    """Evaluate and print."""
    found = evaluate(options.run, options.weights, options.split, options.changes)
    which = f"{options.split} %s of {options.run} ({options.weights} epoch)"
    for name, value in found.metrics.items():
        if name != "loss":
            print(f"{which % name}: {found.metric.format(value) if name == found.metric.name else format_value(value)}")
    print(f"{options.split} loss: {found.metrics['loss']:.4f}")
    if found.rates:
        print("firing rates (spikes per neuron and time step):")
    for name, rate in found.rates.items():
        print(f"  {name:24} {rate:.4f}")
    return 0
