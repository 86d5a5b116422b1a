"""The page of a run."""

import dataclasses
import math
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from ... import plots
from ..._utils.files import read_json
from ..._utils.statistics import share_interval
from ...energy import EnergyReport
from ...energy.report import LayerEnergy, with_unit
from ...measurement.gradients import is_on_chain
from ...recipes.entries import from_dict
from ...training import RunFolder, read_rows
from ...training.folder import Row
from ...training.health import gradient_verdict
from ...training.provenance import flatten_entries
from ...training.tables import Metric, format_duration, format_value
from .page import Page, Picture, Section, Table, all_columns, entries_section, picture

SHOWN_ELSEWHERE = {"metric", "higher_is_better", "fraction", "chance", "command"}
"""Entries of ``environment.json`` that other parts of the page show."""
MAX_MATRIX = 20
"""A confusion matrix of more classes cannot be read."""


class RunFiles:
    """The files of a run, finished or not."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.metrics = read_rows(folder.table("metrics"))
        if not self.metrics:
            raise FileNotFoundError(f"the run in {folder} has not finished an epoch yet: there is nothing to report")
        self.recipe, self.environment = folder.read_entries(), read_json(folder.environment)
        # Empty for an unfinished run, whose environment names the metric. Keys are dotted.
        self.result = dict(flatten_entries(folder.read_result() if folder.is_finished else {}))
        task = self.result or self.environment
        self.metric = Metric.of(task) if "metric" in task else Metric("loss", higher_is_better=False)
        self.chance = number_at(task, "chance")
        self.layers = read_rows(folder.table("layers"), ["layer"])
        self.last_layers = [row for row in self.layers if row["epoch"] == self.layers[-1]["epoch"]]
        self.gradients = read_rows(folder.table("gradients"))
        self.energy = read_rows(folder.table("energy"), ["layer"])
        # The number of test samples by class and predicted class; empty for other tasks.
        counts = read_rows(folder.table("confusion"), ["class", "predicted"])
        self.confusion = Counter({(row["class"], row["predicted"]): int(row["count"]) for row in counts})

    @property
    def judged_on(self) -> str:
        """The part of the data whose metric judges the run: test data, or validation data without a test set."""
        has_test = not math.isnan(number_at(self.result, f"test_last.{self.metric.name}"))
        return "test" if has_test else "validation"

    @property
    def reached(self) -> float:
        """The metric after the last epoch on those data; NaN if it was not measured."""
        if not self.result:
            return float(self.metrics[-1].get(f"validation_{self.metric.name}", math.nan))
        return number_at(self.result, f"{self.judged_on}_last.{self.metric.name}")


def run_page(folder: RunFolder) -> Page:
    """Return the page of a run, finished or not."""
    run = RunFiles(folder)
    environment = {key: value for key, value in run.environment.items() if key not in SHOWN_ELSEWHERE}
    # Their ratio is of the weights' gradients, and the sentence's of those at the spikes.
    result = {key: value for key, value in run.result.items() if not key.startswith("gradient_ratio")}
    return Page(
        f"{network_and_data(run.recipe)}: {folder.path.name}",
        _task_and_method(run.recipe),
        "" if math.isnan(run.reached) else run.metric.format(run.reached),
        _verdict(run),
        _facts(run),
        [
            _learning(run),
            *_classes(run.confusion),
            *_layers(run),
            *_energy(run),
            *_anytime(run.folder),
            *entries_section("Result", result),
            *entries_section("Recipe", run.recipe),
            *entries_section("Surrogates set before the first step", read_json(folder.surrogates)),
            *entries_section("Environment", environment),
        ],
        _command(run.environment),
    )


def network_and_data(recipe: Mapping[str, Any]) -> str:
    """Return the network and the data of a recipe in a few words."""
    entries = dict(flatten_entries(recipe))
    network = entries.get("network.kind") or entries.get("network") or "a network"
    return f"{network} on {entries.get('data.kind') or 'data'}"


def _command(environment: Mapping[str, Any]) -> str:
    """Return the command line that started a run, as one types it."""
    words = environment.get("command")
    if not isinstance(words, list) or not words:
        return ""
    is_command = Path(str(words[0])).name in ("shortcut-snn", "__main__.py")
    return shlex.join(map(str, ["shortcut-snn", *words[1:]] if is_command else ["python", *words]))


def _task_and_method(recipe: dict[str, Any]) -> str:
    """Return the task and the method in a few words; the task alone if a component is unknown here."""
    words = [str(dict(flatten_entries(recipe)).get("task.kind") or "")]
    with suppress(ValueError, TypeError):
        words.append(str(from_dict(recipe).method))
    return ", ".join(filter(None, words))


def _verdict(run: RunFiles) -> list[str]:
    """Return the result in sentences."""
    sentences = [] if run.result else [f"Not finished: {len(run.metrics)} epochs so far."]
    metric, chance = run.metric, run.chance
    if not math.isnan(run.reached):
        sentence = f"On {run.judged_on} data the {metric.title} is {metric.format(run.reached)}"
        if not math.isnan(chance):
            sentence += f"; chance is {metric.format(chance)}"
            sentence += "" if metric.is_above_chance(run.reached, chance) else ": the network has learned nothing"
        sentences.append(f"{sentence}.")
    if run.confusion and metric.name == "accuracy":
        right = sum(count for (label, predicted), count in run.confusion.items() if label == predicted)
        low, high = map(metric.format, share_interval(right, run.confusion.total()))
        sentences.append(
            f"On similar samples this network's accuracy is between {low} and {high} (95 % interval, from "
            f"{run.confusion.total():,} samples); another seed may differ by more."
        )
    if run.layers:
        sentences.append(f"The gradient in the last epoch: {gradient_verdict(run.last_layers)}.")
    return sentences


def _facts(run: RunFiles) -> list[tuple[str, str]]:
    """Return names and values: of the data and the network, then costs."""
    result, environment = run.result, run.environment
    samples = " / ".join(format_value(result.get(f"samples.{part}")) for part in ("train", "validation", "test"))
    spiking, relu = (number_at(result, key) for key in ("energy_pj", "relu_energy_pj"))
    seconds = [row["seconds"] for row in read_rows(run.folder.table("timing")) if math.isfinite(row["seconds"])]
    step, peak = number_at(result, "seconds_per_step"), number_at(result, "peak_bytes_per_step")
    threads, gpu = environment.get("cpu_threads"), environment.get("gpu")
    facts = [
        ("samples: train / validation / test", samples),
        ("parameters", format_value(number_at(result, "parameters"))),
        ("firing rate", format_value(number_at(result, "firing_rate"))),
        ("energy of an input", "-" if math.isnan(spiking) else f"{with_unit(spiking)} (with ReLUs {with_unit(relu)})"),
        ("time in training, without validation and tests", format_duration(sum(seconds)) if seconds else "-"),
        ("time of a step (median)", f"{format_value(step)} s"),
        ("peak memory of a step, above that between steps", "-" if math.isnan(peak) else f"{peak / 2**20:,.0f} MiB"),
        ("device", str(gpu) if gpu else f"CPU, {threads} threads" if threads else "-"),
    ]
    # "- s" or "- / - / -": a unit without a value.
    return [(name, value) for name, value in facts if value != "-" and not value.startswith("- ")]


def _learning(run: RunFiles) -> Section:
    metric, chance = run.metric, None if math.isnan(run.chance) else run.metric.scale * run.chance
    draw = partial(
        plots.curves, run.metrics, metric=metric.name, metric_label=metric.label(), scale=metric.scale, chance=chance
    )
    table = all_columns(run.metrics, "all figures of every epoch")
    return Section("Learning", pictures=[picture("Curves over epochs", draw)], tables=[table])


def _classes(confusion: Counter[tuple[str, str]]) -> list[Section]:
    """Return the section on classes: the matrix, if it can be read, and the classes from worst to best."""
    if not confusion:
        return []
    # Rows are in the order of labels; a class without test samples comes last.
    classes = list(dict.fromkeys([label for label, _ in confusion] + [predicted for _, predicted in confusion]))
    rows = []
    for label in classes:
        predicted = Counter({other: confusion[label, other] for other in classes})
        total, right = predicted.total(), predicted.pop(label)
        (other, count) = max(predicted.items(), key=lambda item: item[1], default=("", 0))
        share = right / max(total, 1)
        confused = f"{other} ({count})" if count else "-"
        rows.append((share, [label, f"{total:,}", f"{100 * share:.1f}", confused]))
    cells = [row for _, row in sorted(rows, key=lambda pair: pair[0])]
    table = Table(["class", "test samples", "accuracy, %", "most often predicted as"], cells, "accuracy by class")
    matrix = [[confusion[label, other] for other in classes] for label in classes]
    draw = partial(plots.confusion, matrix, classes)
    pictures = [picture("Confusion matrix, test samples", draw)] if len(classes) <= MAX_MATRIX else []
    return [Section("Classes", pictures=pictures, tables=[table])]


def _layers(run: RunFiles) -> list[Section]:
    """Return gradient and firing rate by layer and epoch."""
    at_spikes = _by_epoch(run.layers, "norm")
    gradients = [_relative_to_last(row) for row in at_spikes or run.gradients]
    where = "at the spikes" if at_spikes else "of the weights"
    pictures = _by_layer(f"Gradient {where} by layer", gradients, "gradient (last layer = 1)", log=True)
    pictures += _by_layer("Firing rate by layer", _by_epoch(run.layers, "rate"), "firing rate", log=False)
    tables = [
        all_columns(run.gradients, "gradient RMS of each layer's weights", names=False),
        all_columns(run.last_layers, "each layer in the last epoch"),
    ]
    text = (
        "A line is an epoch. Firing rates are spikes per neuron and time step on one batch; silent is the share of "
        "neurons that never fired."
    )
    return [Section("Layers", text, pictures, [table for table in tables if table.rows])] if pictures else []


def _by_epoch(layers: Sequence[Row], key: str) -> list[Row]:
    """Return one column of the layers' rows as a row for each epoch, without layers in residual projections."""
    epochs: dict[float, Row] = {}
    for row in layers:
        if is_on_chain(row["layer"]):
            epochs.setdefault(row["epoch"], {"epoch": row["epoch"]})[row["layer"]] = row[key]
    return list(epochs.values())


def _relative_to_last(row: Row) -> Row:
    """Divide the values of all layers by that of the last one."""
    last = row[list(row)[-1]]
    return {key: value if key == "epoch" else value / last if last else math.nan for key, value in row.items()}


def _by_layer(title: str, rows: Sequence[Row], ylabel: str, log: bool) -> list[Picture]:
    """Return a picture with a line over layers for each epoch; none if no value is known."""
    values = [value for row in rows for key, value in row.items() if key != "epoch"]
    if not any(math.isfinite(value) and (value > 0 or not log) for value in values):
        return []
    rows = [row | {"epoch": int(row["epoch"])} for row in rows]
    return [picture(title, lambda path: plots.by_layer(rows, path, "", ylabel, log))]


def _energy(run: RunFiles) -> list[Section]:
    if not run.energy:
        return []
    text = (
        "For one input: 0.9 pJ per AC, 4.6 pJ per MAC (45 nm; Horowitz, ISSCC 2014). Normalisations are folded; "
        "memory and membrane updates are not counted. With memory, both are: 5 pJ for 32 bits in SRAM, accesses as in "
        "Lemaire et al. (2022). The baseline is the same network quantised to as many bits as its time steps "
        "distinguish (Yan et al., 2024)."
    )
    names = [field.name for field in dataclasses.fields(LayerEnergy)]
    layers = [LayerEnergy(**{name: row[name] for name in names} | {"bits": int(row["bits"])}) for row in run.energy]
    report = EnergyReport(tuple(layers))
    pictures = []
    if report.spike_energy:
        pictures.append(picture("Energy with memory, and firing rates", partial(plots.energy, report)))
    return [Section("Energy", text, pictures, [all_columns(run.energy, "operations and energy of each layer")])]


def _anytime(folder: RunFolder) -> list[Section]:
    rows = read_rows(folder.table("anytime"), ["network"])
    if not rows:
        return []
    text = (
        "Each sample leaves the network at the first exit, a time step or a kept branch, that is certain of its class. "
        "The thresholds are set on validation data for a permitted loss of accuracy, the drop."
    )
    pictures = [picture("Accuracy over energy and time", partial(plots.anytime, rows))]
    return [Section("Anytime inference", text, pictures, [all_columns(rows, "accuracy, energy and time")])]


def number_at(entries: Mapping[str, Any], key: str) -> float:
    """Return a number of flat entries; NaN if there is none."""
    value = entries.get(key)
    return float(value) if isinstance(value, int | float) else math.nan
