"""The page of a run."""

import dataclasses
import math
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ... import __version__
from ...diagnosis import LayerReport, judge, plots
from ...diagnosis.gradients import on_chain
from ...energy import EnergyReport, LayerEnergy
from ...files import read_json
from ...recipes.entries import from_dict
from ...recipes.recipe import method_text
from ...training import Metric, RunFolder, format_duration, format_value, recipe_differences
from .confusion import Confusion, read_confusion
from .figures import energy_bars
from .page import Page, Picture, Section, Table, all_columns, entries_section, picture
from .reading import Row, entry_texts, number_at, read_rows, value_at

PARTS = {
    "test_last": "test, last epoch",
    "test_best": "test, best epoch",
    "validation_last": "validation, last epoch",
    "validation_best": "validation, best epoch",
}
SHOWN_ELSEWHERE = {"metric", "higher_is_better", "fraction", "chance", "command"}
"""Entries of ``environment.json`` that other parts of the page show."""


@dataclass(frozen=True)
class Run:
    """The files of a run, read.

    Args:
        folder: of the run.
        recipe: its entries.
        environment: ``environment.json``.
        result: ``result.json``; empty for an unfinished run.
        metric: what the run is judged by.
        metrics: ``metrics.csv``, a row for each epoch.
        layers: ``layers.csv``, a row for each layer and epoch.
        energy: ``energy.csv``, a row for each layer.
        confusion: ``confusion.csv``; None if there is none.
    """

    folder: RunFolder
    recipe: dict[str, Any]
    environment: dict[str, Any]
    result: dict[str, Any]
    metric: Metric
    metrics: list[Row]
    layers: list[Row]
    energy: list[Row]
    confusion: Confusion | None

    @property
    def chance(self) -> float:
        """The metric's chance level; NaN if it has none."""
        return number_at(self.result or self.environment, "chance")

    @property
    def reached(self) -> tuple[str, float]:
        """The part of the data on which the run is judged, and its metric after the last epoch."""
        if not self.result:
            return "validation", self.metrics[-1].get(f"validation_{self.metric.name}", math.nan)
        for part in ("test", "validation"):
            value = number_at(self.result, f"{part}_last.{self.metric.name}")
            if not math.isnan(value):
                return part, value
        return "test", math.nan

    @property
    def last_layers(self) -> list[Row]:
        """The rows of all layers in the last epoch."""
        return [row for row in self.layers if row["epoch"] == self.layers[-1]["epoch"]]


def read_run(folder: RunFolder) -> Run:
    """Read the files of a run, finished or not.

    Raises:
        FileNotFoundError: the run has not finished its first epoch.
        ValueError: a file is damaged.
    """
    metrics = read_rows(folder.table("metrics"), ["epoch"])
    if not metrics:
        raise FileNotFoundError(f"the run in {folder} has not finished an epoch yet: there is nothing to report")
    result, environment = read_json(folder.result), read_json(folder.environment)
    if result and "metric" not in result:
        raise ValueError(f"{folder.result} is damaged: it has no metric; delete it and resume the run")
    # The environment of an unfinished run states its metric.
    source = result or environment
    layer_numbers = [field.name for field in dataclasses.fields(LayerReport) if field.name != "layer"]
    return Run(
        folder,
        folder.read_entries(),
        environment,
        result,
        Metric.of(source) if "metric" in source else Metric("loss", higher_is_better=False),
        metrics,
        read_rows(folder.table("layers"), ["epoch", *layer_numbers], ["layer"]),
        read_rows(folder.table("energy"), ["energy_pj", "relu_energy_pj"], ["layer"]),
        read_confusion(folder.table("confusion")),
    )


def run_page(folder: RunFolder) -> Page:
    """Return the page of a run, finished or not.

    Raises:
        FileNotFoundError: the run has not finished its first epoch.
        ValueError: a file is damaged.
    """
    run = read_run(folder)
    _, reached = run.reached
    environment = {key: value for key, value in run.environment.items() if key not in SHOWN_ELSEWHERE}
    return Page(
        f"{network_and_data(run.recipe)}: {folder.path.name}",
        " · ".join(filter(None, [_task_and_method(run.recipe), origin(run.environment)])),
        "" if math.isnan(reached) else run.metric.format(reached),
        _verdict(run),
        _facts(run),
        [
            _learning(run),
            *_results(run),
            *([run.confusion.section()] if run.confusion else []),
            *_gradients(run),
            *_firing(run),
            *_energy(run),
            _cost(run),
            _recipe(run.recipe),
            *entries_section("Calibrated surrogate widths", entry_texts(read_json(folder.widths))),
            *entries_section("Environment", entry_texts(environment)),
        ],
        _command(run.environment),
    )


def network_and_data(recipe: Mapping[str, Any]) -> str:
    """Return the network and the data of a recipe in a few words."""
    network, data = (value_at(recipe, f"{part}.kind") for part in ("network", "data"))
    return f"{network or value_at(recipe, 'network') or 'a network'} on {data or 'data'}"


def origin(environment: Mapping[str, Any]) -> str:
    """Return when a run was started, from which commit and with which version, as far as it is known."""
    date = str(environment.get("date") or "").replace("T", " ")
    commit = environment.get("commit")
    version = environment.get("shortcut_snn", __version__)
    return ", ".join(filter(None, [date, commit and f"commit {str(commit)[:12]}", f"shortcut-snn {version}"]))


def _command(environment: Mapping[str, Any]) -> str:
    """Return the command line that started a run, as one types it."""
    words = environment.get("command")
    if not isinstance(words, list) or not words:
        return ""
    is_command = Path(str(words[0])).name in ("shortcut-snn", "__main__.py")
    return shlex.join(map(str, ["shortcut-snn", *words[1:]] if is_command else ["python", *words]))


def _task_and_method(recipe: dict[str, Any]) -> str:
    """Return the task and the method in a few words; the task alone if a component is unknown here."""
    words = [str(value_at(recipe, "task.kind") or "")]
    with suppress(ValueError, TypeError):
        words.append(method_text(from_dict(recipe).method))
    return ", ".join(filter(None, words))


def _verdict(run: Run) -> list[str]:
    """Return the result in sentences."""
    sentences = [] if run.result else [f"Not finished: {len(run.metrics)} epochs so far."]
    metric, chance = run.metric, run.chance
    part, reached = run.reached
    if not math.isnan(reached):
        level = "" if math.isnan(chance) else f"; chance is {metric.format(chance)}"
        failed = bool(level) and not metric.is_above_chance(reached, chance)
        ending = ": the network has learned nothing." if failed else "."
        sentences.append(f"On {part} data the {metric.title} is {metric.format(reached)}{level}{ending}")
    if run.confusion is not None and metric.name == "accuracy":
        low, high = map(metric.format, run.confusion.interval)
        sentences.append(
            f"On similar samples this network's accuracy is between {low} and {high} (95 % interval, from "
            f"{run.confusion.samples:,} samples); another seed may differ by more."
        )
    if run.layers:
        names = [field.name for field in dataclasses.fields(LayerReport)]
        sentence = judge([LayerReport(**{name: row[name] for name in names}) for row in run.last_layers]).sentence
        sentences.append(f"The gradient in the last epoch: {sentence}.")
    return sentences


def _facts(run: Run) -> list[tuple[str, str]]:
    metric, result = run.metric, run.result
    samples = " / ".join(format_value(value_at(result, f"samples.{part}")) for part in ("train", "validation", "test"))
    spiking, relu = (_energy_total(run, key) / 1000 for key in ("energy_pj", "relu_energy_pj"))
    best = metric.format(number_at(result, f"test_best.{metric.name}"))
    facts = [
        (f"test {metric.title}, best epoch ({format_value(result.get('best_epoch'))})", best),
        ("chance", metric.format(number_at(result, "chance"))),
        ("samples: train / validation / test", samples),
        ("parameters", format_value(number_at(result, "parameters"))),
        ("firing rate", format_value(number_at(result, "firing_rate"))),
        (
            "energy of an input",
            "-" if math.isnan(spiking) else f"{format_value(spiking)} nJ (with ReLUs {format_value(relu)})",
        ),
    ]
    return [(name, value) for name, value in facts if value not in ("-", "- / - / -")]


def _energy_total(run: Run, key: str) -> float:
    """Return the energy of an input; from the table of layers, if there is one, so that page and table agree."""
    return sum(row[key] for row in run.energy) if run.energy else number_at(run.result, key)


def _learning(run: Run) -> Section:
    metric = run.metric
    chance = None if math.isnan(run.chance) else metric.scale * run.chance

    def draw(path: Path) -> None:
        plots.curves(run.metrics, path, metric.name, metric.label(), metric.scale, chance)

    table = all_columns(run.metrics, "all figures of every epoch")
    return Section("Learning", pictures=[picture("Curves over epochs", draw)], tables=[table])


def _results(run: Run) -> list[Section]:
    parts = {words: run.result[part] for part, words in PARTS.items() if isinstance(run.result.get(part), dict)}
    names = list(dict.fromkeys(name for values in parts.values() for name in values))
    if not names:
        return []

    def cell(values: dict[str, Any], name: str) -> str:
        return run.metric.format(values.get(name)) if name == run.metric.name else format_value(values.get(name))

    rows = [[words, *(cell(values, name) for name in names)] for words, values in parts.items()]
    chosen = f"chosen on {run.result.get('best_chosen_on', 'nothing')} data"
    text = f"The best epoch is {format_value(run.result.get('best_epoch'))}, {chosen}."
    return [Section("Results", text, tables=[Table(["", *(name.replace("_", " ") for name in names)], rows)])]


def _gradients(run: Run) -> list[Section]:
    weights = read_rows(run.folder.table("gradients"), ["epoch"])
    at_spikes = _by_epoch(run.layers, "norm")
    rows = [_relative_to_last(row) for row in at_spikes or weights]
    where = "at the spikes" if at_spikes else "of the weights"
    pictures = _by_layer(f"Gradient {where} by layer", rows, "gradient (last layer = 1)", log=True)
    if not pictures:
        return []
    text = "The size of the gradient at each layer, divided by that at the last layer. A line is an epoch."
    tables = [all_columns(weights, "gradient RMS of each layer's weights", names=False)] if weights else []
    return [Section("Gradients by depth", text, pictures, tables)]


def _firing(run: Run) -> list[Section]:
    if not run.layers:
        return []
    text = (
        "Spikes per neuron and time step on one batch of each epoch. In the table, silent is the share of neurons "
        "that never fired."
    )
    pictures = _by_layer("Firing rate by layer", _by_epoch(run.layers, "rate"), "firing rate", log=False)
    return [Section("Firing", text, pictures, [all_columns(run.last_layers, "each layer in the last epoch")])]


def _by_epoch(layers: Sequence[Row], key: str) -> list[Row]:
    """Return one column of the layers' rows as a row for each epoch, without layers in residual projections."""
    epochs: dict[float, Row] = {}
    for row in layers:
        if on_chain(row["layer"]):
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


def _energy(run: Run) -> list[Section]:
    rows = run.energy
    if not rows:
        return []
    text = (
        "For one input: 0.9 pJ per AC, 4.6 pJ per MAC (45 nm; Horowitz, ISSCC 2014). "
        "Normalisations are folded; memory and membrane updates are not counted. With memory, both are: 5 pJ for 32 "
        "bits in SRAM, accesses as in Lemaire et al. (2022). The baseline is the same network quantised to as many "
        "bits as its time steps distinguish (Yan et al., 2024)."
    )
    spiking, relu = ([row[key] / 1000 for row in rows] for key in ("energy_pj", "relu_energy_pj"))
    pictures = [
        picture("Energy of an input by layer", partial(energy_bars, [str(row["layer"]) for row in rows], spiking, relu))
    ]
    names = [field.name for field in dataclasses.fields(LayerEnergy)]
    if set(names) <= set(rows[0]):
        report = EnergyReport(tuple(LayerEnergy(**{name: row[name] for name in names}) for row in rows))
        if report.spike_energy:
            pictures.append(picture("Energy with memory, and firing rates", partial(plots.energy, report)))
    return [Section("Energy", text, pictures, [all_columns(rows, "operations and energy of each layer")])]


def _cost(run: Run) -> Section:
    timing = read_rows(run.folder.table("timing"), ["epoch", "seconds"])
    seconds = [row["seconds"] for row in timing if math.isfinite(row["seconds"])]
    peak = number_at(run.result, "peak_bytes_per_step")
    threads, gpu = run.environment.get("cpu_threads"), run.environment.get("gpu")
    rows = [
        ("time in training, without validation and tests", format_duration(sum(seconds)) if seconds else "-"),
        ("time of an epoch (median)", _seconds(number_at(run.result, "seconds_per_epoch"))),
        ("time of a step (median)", _seconds(number_at(run.result, "seconds_per_step"))),
        ("peak memory of a step, above that between steps", "-" if math.isnan(peak) else f"{peak / 2**20:,.0f} MiB"),
        ("device", str(gpu) if gpu else f"CPU, {threads} threads" if threads else "-"),
    ]
    return Section("Cost", tables=[Table((), [row for row in rows if row[1] != "-"])])


def _seconds(value: float) -> str:
    return "-" if math.isnan(value) else f"{format_value(value)} s"


def _recipe(recipe: dict[str, Any]) -> Section:
    """Return a section with the components of a recipe, its entries that differ from defaults, and all entries."""
    complete = Table((), entry_texts(recipe), "all entries")
    kinds = _only_kinds(recipe)
    try:
        entries, defaults = from_dict(recipe).to_dict(), from_dict(kinds).to_dict()
    except (ValueError, TypeError):
        # A component of the user's that is not imported here.
        return Section("Recipe", tables=[complete])
    changed = {key: value for key, (_, value) in recipe_differences(defaults, entries).items()}
    rows = entry_texts(kinds) + entry_texts(changed)
    return Section("Recipe", "What differs from the defaults.", tables=[Table((), rows), complete])


def _only_kinds(entries: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested entries with nothing but the names of components."""
    nested = {key: _only_kinds(value) if isinstance(value, dict) else value for key, value in entries.items()}
    return {key: value for key, value in nested.items() if key == "kind" or (isinstance(value, dict) and value)}
