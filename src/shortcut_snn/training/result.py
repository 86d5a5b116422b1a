"""The end of a run: test its networks, remove the branches, and write result, tables and plots."""

import dataclasses
import math
import textwrap
from collections.abc import Mapping, Sequence
from statistics import median, median_low
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from .. import plots
from .._utils.files import write_csv
from ..data import Data
from ..data.loading import Loaders
from ..deploy.safetensors_files import load_into
from ..energy import EnergyReport, measure_energy
from ..energy.report import break_even_text, with_unit
from ..measurement.gradients import first_to_last_ratio
from .folder import RunFolder
from .health import gradient_verdict
from .run_state import History, Run
from .tables import Metric
from .task import Task

ENERGY_SAMPLES = 256
"""The default number of test inputs; they are drawn at random with a fixed seed, since test sets may be sorted."""
ENERGY_COLUMNS = ("energy", "relu_energy", "total_energy", "quantised_energy")


@torch.no_grad()
def measure_task_energy(task: Task, data: Data, samples: int = ENERGY_SAMPLES) -> EnergyReport:
    """Return the energy of a task's network on a sample of the test data."""
    sample = data.sample(samples)
    batches = [sample]
    tensors = sample if isinstance(sample, tuple | list) else ()
    if all(isinstance(part, Tensor) and part.dim() for part in tensors) and len({*map(len, tensors)}) == 1:
        # A run that could train must not run out of memory here.
        batches = list(zip(*(part.split(32) for part in tensors), strict=True))
    return measure_energy(task.model, [task.prepare_batch(batch)[0] for batch in batches])


def energy_rows(report: EnergyReport) -> list[dict[str, Any]]:
    """Return one row per layer, for one input; a rate that is undefined is left empty."""
    rows = []
    for layer in report.layers:
        row = dataclasses.asdict(layer) | {f"{name}_pj": getattr(layer, name) for name in ENERGY_COLUMNS}
        rates = {name: getattr(layer, name) for name in ("firing_rate", "break_even_rate")}
        rows.append(row | {name: "" if rate != rate else rate for name, rate in rates.items()})
    return rows


def finish(task: Task, data: Data, batches: Loaders, run: Run, trainer: pl.Trainer) -> dict[str, Any]:
    """Test the last and the best network, remove the branches, and return what ``result.json`` holds."""
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    history = next(callback for callback in callbacks if isinstance(callback, History))
    if trainer.is_global_zero:
        run.save_network(task, "last", task.model)
    trainer.strategy.barrier()
    if task.method.weight_bits is not None:
        # The file's weights are rounded.
        _load(task, run.folder, "last")
    best_epoch = trainer.strategy.broadcast(history.best_epoch)
    last = _test(task, batches, trainer)
    tables = task.test_tables()
    best = last
    if best_epoch + 1 < len(history.rows):
        try:
            _load(task, run.folder, "best")
        except (FileNotFoundError, ValueError) as error:
            raise ValueError(run.folder.lost_best) from error
        best = _test(task, batches, trainer, prefix="test_best")
        _load(task, run.folder, "last")
    # Raises an error unless the outputs without branches equal those with them, bit for bit.
    task.model.strip(check=task.prepare_batch(data.sample(8))[0])
    task.is_finished = True
    result = {
        "task": run.metadata.get("task", type(task).__name__),
        **metric_of(task),
        "test_last": last,
        "test_best": best,
        **_training_figures(history, batches.validation is not None),
        "parameters": sum(parameter.numel() for parameter in task.model.network.parameters()),
        "samples": batches.samples,
        "stripped_equals_trained": True,
    }
    if not trainer.is_global_zero:
        return dict(_finite(result))
    energy = None
    try:
        energy = measure_task_energy(task, data)
        write_csv(run.folder.table("energy"), energy_rows(energy))
    except ValueError as error:
        run.log(f"energy not measured: {error}")
    result |= {f"{name}_pj": getattr(energy, name, None) for name in ENERGY_COLUMNS}
    result["break_even_rate"] = None if energy is None else energy.break_even_rate
    result = dict(_finite(result))
    for name, rows in tables.items():
        write_csv(run.folder.table(name), rows)
    metric = Metric.of(result)
    plots.curves(history.rows, run.folder / "curves.png", metric.name, metric.label(), metric.scale)
    plots.by_layer(history.gradients, run.folder / "gradients.png", "gradients of the weights", "RMS")
    run.folder.finish(result)
    kept = task.method.branches is not None and task.method.branches.keep
    run.log(summary_text(result, run.folder, history.health.last_rows, kept))
    return result


def _finite(value: Any) -> Any:
    """Return a result without NaN and infinity, which JSON does not have; they become None."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def metric_of(task: Task) -> dict[str, Any]:
    """Return how to read the figures of a task."""
    return {
        "metric": task.metric,
        "higher_is_better": task.higher_is_better,
        "fraction": task.fraction,
        "chance": task.chance,
    }


def _test(task: Task, batches: Loaders, trainer: pl.Trainer, prefix: str = "test") -> dict[str, float]:
    """Return loss and metrics on the test data; loggers receive them with the prefix."""
    task.test_prefix = prefix
    figures = trainer.test(task, batches.test, verbose=False)[0]
    return {name.removeprefix(f"{prefix}_"): float(value) for name, value in figures.items()}


def _load(task: Task, folder: RunFolder, weights: str) -> None:
    load_into(task.model.network, folder.read_network(weights)[0], folder.network(weights))


def _training_figures(history: History, has_validation: bool) -> dict[str, Any]:
    rows = history.rows
    ratios = [
        first_to_last_ratio({name: value for name, value in row.items() if name != "epoch"})
        for row in history.gradients
    ]
    seconds = [row["seconds_per_step"] for row in history.seconds if row["seconds_per_step"] is not None]
    peaks = [row["peak_bytes_per_step"] for row in history.seconds if row["peak_bytes_per_step"] is not None]
    return {
        "validation_last": _validation_figures(rows[-1]) if has_validation else None,
        "validation_best": _validation_figures(rows[history.best_epoch]) if has_validation else None,
        "best_epoch": history.best_epoch + 1,
        "best_chosen_on": "validation" if has_validation else "nothing: no validation data",
        "epochs": len(rows),
        "firing_rate": rows[-1].get("firing_rate"),
        "gradient_ratio_first_epoch": ratios[0],
        "gradient_ratio_last_epoch": ratios[-1],
        # Kernels may compile in the first of two epochs, so not their mean or the higher one.
        "seconds_per_epoch": median_low(row["seconds"] for row in history.seconds),
        "seconds_per_step": median(seconds) if seconds else None,
        "peak_bytes_per_step": peaks[-1] if peaks else None,
    }


def _validation_figures(row: Mapping[str, Any]) -> dict[str, float]:
    prefix = "validation_"
    return {name.removeprefix(prefix): value for name, value in row.items() if name.startswith(prefix)}


def summary_text(
    result: Mapping[str, Any], folder: RunFolder, layers: Sequence[Mapping[str, Any]], branches_kept: bool
) -> str:
    """Return the result of a run and the verdict on its last measurement of the layers as text of 79 columns."""
    metric = Metric.of(result)
    lines = []
    if result["test_last"]:
        best = metric.format(result["test_best"][metric.name])
        lines += [
            (f"test {metric.name}, last epoch", metric.format(result["test_last"][metric.name])),
            (f"test {metric.name}, epoch {result['best_epoch']}", f"{best} (chosen on {result['best_chosen_on']})"),
        ]
    if result["chance"] is not None:
        lines.append(("by chance", metric.format(result["chance"])))
    if result["firing_rate"] is not None:
        lines.append(("firing rate in training", f"{result['firing_rate']:.3f} spikes per neuron and time step"))
    if layers:
        lines.append(("gradient in the last epoch", gradient_verdict(layers)))
    if result.get("energy_pj") is not None:
        energy = f"{with_unit(result['energy_pj'])}; with ReLUs {with_unit(result['relu_energy_pj'])} (45 nm)"
        lines.append(("energy of an input", energy))
        energy = f"{with_unit(result['total_energy_pj'])}; quantised {with_unit(result['quantised_energy_pj'])}"
        if result["break_even_rate"] is not None:
            energy += f"; they {break_even_text(result['break_even_rate'])}"
        lines.append(("the same with memory", energy))
    seconds, peak = result["seconds_per_step"], result["peak_bytes_per_step"]
    step = "" if seconds is None else f"; {seconds:.3g} s a step"
    step += "" if peak is None else f", with {peak / 2**20:.0f} MiB at its peak"
    branches = "branches kept as exits" if branches_kept else "no branches"
    lines += [
        ("time", f"{result['seconds_per_epoch']:.1f} s an epoch{step}"),
        ("plots", f"curves.png and gradients.png in {folder}"),
        ("deployed network", f"{folder}/{folder.network('last').name}: {branches}, the same outputs bit for bit"),
    ]
    width = max(len(name) for name, _ in lines)
    text = "\n".join(_wrap(value, f"  {name:{width}}  ", " " * (width + 4)) for name, value in lines)
    chance, value = result["chance"], result["test_last"].get(metric.name)
    if chance is None or value is None or metric.is_above_chance(value, chance):
        return f"\n{text}"
    warning = (
        "The network is at chance: it has learned nothing. Try another optimizer.lr, training.warmup=0.1 or more "
        "training.epochs. `shortcut-snn gradients` with the same recipe shows whether its gradient vanishes or "
        "explodes."
    )
    return f"\n{text}\n\n{_wrap(warning)}"


def _wrap(text: str, first: str = "", then: str = "") -> str:
    """Wrap text for any terminal without breaking file names."""
    return textwrap.fill(
        text, 79, initial_indent=first, subsequent_indent=then, break_long_words=False, break_on_hyphens=False
    )
