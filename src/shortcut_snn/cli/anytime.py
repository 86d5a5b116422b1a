"""``shortcut-snn anytime``: let each sample leave a run's network at the first exit that is certain of its class."""

import argparse
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from .. import plots
from .._utils.files import write_csv
from .._utils.markdown import markdown_table
from ..deploy import Exits, Inference
from ..deploy.anytime import all_logits, calibrate_logits, check_calibration, leave, predict_anytime
from ..deploy.exit_runner import OUTPUT, ExitRunner
from ..deploy.safetensors_files import read_inference, store_exits
from ..energy import EnergyReport, measure_energy
from ..energy.report import with_unit
from ..method import Layout, Shortcut
from ..recipes import open_run
from ..recipes.runs import keeps_result
from ..training import RunFolder, read_rows

DROPS = (0.0, 0.0025, 0.005, 0.01, 0.02)
"""Permitted losses of accuracy for the curve in the figure."""
SAMPLES_OF_TIME = 64


def run(options: argparse.Namespace) -> int:
    """Calibrate on the run's validation data, test on its test data, print and draw what the exits save."""
    if others := options.changes.keys() - {"data"}:
        raise ValueError(f"anytime runs the network as it was trained: --set takes data entries, not {min(others)}")
    folder = RunFolder(options.run)
    network = read_inference(folder.network(options.weights))
    _, data, recipe = open_run(options.run, options.weights, options.changes)
    loaders = data.loaders(recipe.training.seed)
    if loaders.validation is None:
        raise ValueError(
            f"the run in {folder} has no validation data, and thresholds must not be set on test data: train with "
            "--data.validation 0.1, or call shortcut_snn.calibrate on other samples"
        )
    runner = network.exit_runner
    check_calibration(runner, options.drop)
    validation = all_logits(network, runner, loaders.validation)
    check_calibration(runner, options.drop, len(validation[1]))
    exits = calibrate_logits(*validation, runner.exits, options.drop, options.measure)
    print(f"{exits}\n")
    logits, labels = all_logits(network, runner, loaders.test)
    batch, _ = data.sample(options.samples)
    outputs = {step: number for number, (step, place) in enumerate(exits.exits) if place == OUTPUT}
    variants = {f"T = {step}": single_exit(exits, number) for step, number in outputs.items() if step.bit_count() == 1}
    whole = f"T = {exits.exits[-1][0]}"
    variants |= {whole: single_exit(exits, len(exits.exits) - 1), "anytime": exits}
    rows = {name: _measure(network, variant, logits, labels, batch) for name, variant in variants.items()}
    at = leave(logits, exits)
    print(_exit_table(exits, at, logits.argmax(-1) == labels))
    print(f"\n{_cost_table(rows)}")
    print(_worst_class(network.classes, labels, logits, at))
    if options.weights == "last" and keeps_result(options.changes):
        for drop in DROPS:
            curve = calibrate_logits(*validation, exits.exits, drop, options.measure)
            rows[f"anytime, drop {drop:g}"] = _measure(network, curve, logits, labels, batch)
        store_exits(folder.network("last"), exits)
        write_csv(folder.table("anytime"), [{"network": name, **row} for name, row in rows.items()])
        plots.anytime(read_rows(folder.table("anytime"), ["network"]), folder / "anytime.png")
        print(
            f"\nwritten: {folder.table('anytime')}, {folder / 'anytime.png'}, and the exits in {folder.network('last')}"
        )
    else:
        print("\nnothing written: this is not the network of the last epoch on the run's own data")
    return 0


def single_exit(exits: Exits, number: int) -> Exits:
    """Return exits with thresholds at which every sample leaves at the given exit."""
    lowest = -float("inf")
    return replace(exits, thresholds=tuple(lowest if each == number else None for each in range(len(exits.exits) - 1)))


def _measure(network: Inference, exits: Exits, logits: Tensor, labels: Tensor, batch: Tensor) -> dict[str, float]:
    """Return accuracy on the test data, and energy and time of samples of them."""
    at = leave(logits, exits)
    right = (logits.argmax(-1) == labels).gather(0, at[None])[0]
    steps = torch.tensor([step for step, _ in exits.exits])[at]
    energy = measure_exits(network, exits, batch)
    one, many = (milliseconds(network, exits, batch, size) for size in (1, SAMPLES_OF_TIME))
    return {
        "accuracy": float(right.double().mean()),
        "time_steps": float(steps.double().mean()),
        "energy_pj": energy.energy,
        "total_energy_pj": energy.total_energy,
        "ms_batch_1": one,
        f"ms_batch_{SAMPLES_OF_TIME}": many,
    }


class _Anytime(nn.Module):
    def __init__(self, runner: ExitRunner, exits: Exits) -> None:
        super().__init__()
        self.runner, self.exits = runner, exits

    def forward(self, x: Tensor) -> Tensor:
        return predict_anytime(self.runner, x, self.exits).labels


def measure_exits(network: Inference, exits: Exits, batch: Tensor) -> EnergyReport:
    """Return the energy of a sample that leaves at an exit, with the heads and the time steps that really run."""
    inputs = network.model_inputs(batch)
    layout = Layout(batch_axis=inputs.dim() - 4, time_steps=network.spec.time_steps)
    with warnings.catch_warnings():
        # Heads of exits that no sample takes do not run.
        warnings.filterwarnings("ignore", "not counted in the energy")
        return measure_energy(Shortcut(_Anytime(network.exit_runner, exits), layout), [inputs])


def milliseconds(network: Inference, exits: Exits, batch: Tensor, size: int) -> float:
    """Return the mean time of a sample on one core, in batches of a size."""
    whole = exits.used == [len(exits.exits) - 1]
    infer: Callable[[Tensor], Any] = network.logits if whole else lambda x: network.predict(x, anytime=exits)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        batches = torch.split(batch[: 4 * SAMPLES_OF_TIME if size > 1 else SAMPLES_OF_TIME], size)
        infer(batches[0])
        seconds = []
        for each in batches:
            start = time.perf_counter()
            infer(each)
            seconds.append((time.perf_counter() - start) / len(each))
    finally:
        torch.set_num_threads(threads)
    return 1000 * sum(seconds) / len(seconds)


def _exit_table(exits: Exits, at: Tensor, right: Tensor) -> str:
    rows = []
    for number in exits.used:
        here = at == number
        if here.any():
            share, accuracy = here.double().mean(), right[number][here].double().mean()
            rows.append([exits.name(number), f"{100 * share:.1f} %", f"{100 * accuracy:.2f} %"])
    return markdown_table(["exit", "samples", "accuracy there"], rows)


def _cost_table(rows: dict[str, dict[str, float]]) -> str:
    cells = [
        [
            name,
            f"{100 * row['accuracy']:.2f} %",
            f"{row['time_steps']:.2f}",
            with_unit(row["energy_pj"]),
            with_unit(row["total_energy_pj"]),
            f"{row['ms_batch_1']:.2f}",
            f"{row[f'ms_batch_{SAMPLES_OF_TIME}']:.2f}",
        ]
        for name, row in rows.items()
    ]
    columns = ["network", "test accuracy", "time steps", "energy", "with memory", "ms, one at a time"]
    return markdown_table([*columns, f"ms, {SAMPLES_OF_TIME} at a time"], cells)


def _worst_class(classes: Sequence[str], labels: Tensor, logits: Tensor, at: Tensor) -> str:
    """Return a sentence about the class that loses most."""
    right = logits.argmax(-1) == labels
    change = right.gather(0, at[None])[0].double() - right[-1].double()
    losses = {
        name: float(-change[labels == index].mean()) for index, name in enumerate(classes) if (labels == index).any()
    }
    worst = max(losses, key=lambda name: losses[name])
    return f"the class that loses most: {worst}, {100 * losses[worst]:.2f} points"
