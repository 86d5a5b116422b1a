"""``shortcut-snn evaluate``: test the network of a run again, from the files of the run alone."""

import argparse
import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch

from ..measurement import probe
from ..recipes import open_run
from ..recipes.runs import keeps_result
from ..training import RunFolder, read_rows
from ..training.tables import Metric, format_value
from ..training.trainer import make_trainer, quiet_lightning


def run(options: argparse.Namespace) -> int:
    """Evaluate and print the metrics and firing rates."""
    evaluation = evaluate(options.run, options.weights, options.split, options.changes)
    metric = evaluation.metric
    for name, value in evaluation.metrics.items():
        if name != "loss":
            text = metric.format(value) if name == metric.name else format_value(value)
            print(f"{options.split} {name} of {options.run} ({options.weights} epoch): {text}")
    print(f"{options.split} loss: {evaluation.metrics['loss']:.4f}")
    table = RunFolder(options.run).table("anytime")
    # Its rows are of the network of the last epoch on the run's own test data.
    has_exits = options.split == "test" and options.weights == "last" and keeps_result(options.changes)
    for row in read_rows(table, ["network"]) if has_exits and table.is_file() else ():
        if row["network"] == "anytime":
            print(f"with exits (anytime): accuracy {100 * row['accuracy']:.2f} %, {row['time_steps']:.2f} time steps")
    if evaluation.rates:
        print("firing rates (spikes per neuron and time step):")
    for name, rate in evaluation.rates.items():
        print(f"  {name:24} {rate:.4f}")
    return 0


@dataclass(frozen=True)
class Evaluation:
    """Metrics and firing rates of a network on a part of its data."""

    metrics: dict[str, float]
    rates: dict[str, float]
    metric: Metric


def evaluate(
    folder: str | Path, weights: str = "last", split: str = "test", changes: dict[str, object] | None = None
) -> Evaluation:
    """Test the network of a run, with changes of its recipe such as a new folder of the data."""
    task, data, recipe = open_run(folder, weights, changes)
    loaders = data.loaders(recipe.training.seed)
    loader = loaders.test if split == "test" else loaders.validation
    if loader is None:
        raise ValueError(f"the run in {folder} has no {split} data")
    # CPUs do not support fp16. The weights themselves are fp32 in any case.
    fp16_on_cpu = recipe.training.precision == "fp16" and not torch.cuda.is_available()
    precision = "fp32" if fp16_on_cpu else recipe.training.precision
    # More processes would each start this command again.
    training = dataclasses.replace(recipe.training, devices=1, nodes=1, strategy="auto", precision=precision)
    with quiet_lightning(), probe(task.model.network, membrane=False) as tallies:
        logged = make_trainer(training).test(task, loader, verbose=False)[0]
    metrics = {name.removeprefix("test_"): float(value) for name, value in logged.items()}
    rates = {name: tally.rate for name, tally in tallies.items()}
    return Evaluation(metrics, rates, Metric(task.metric, task.higher_is_better, task.fraction))
