"""The page on a run."""

import dataclasses
import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ... import __version__
from ...diagnosis.gradients import on_chain
from ...diagnosis.layers import LayerReport
from ...diagnosis.verdict import judge
from ...energy import EnergyReport, LayerEnergy
from ...files import read_json
from ...recipes.entries import from_dict
from ...recipes.recipe import method_text
from ...training import Metric, RunFolder, format_duration, format_value, recipe_differences
from . import chart
from .classes import Confusion, by_class, read_confusion
from .html import Page, Section, Table, all_columns
from .reading import Row, entry, figure, read_rows, texts

PARTS = {
    "test_last": "test, last epoch",
    "test_best": "test, best epoch",
    "validation_last": "validation, last epoch",
    "validation_best": "validation, best epoch",
}
TOLD = {"metric", "higher_is_better", "fraction", "chance", "command"}
"""What an environment says that is told elsewhere."""
RELATIVE = "Orange: larger than at the last layer, blue: smaller; full colour from a factor of 1000 on."


def run_page(folder: RunFolder) -> Page:
    """Return the page on a run, finished or not.

    Raises:
        FileNotFoundError: its first epoch is not over.
        ValueError: one of its files is damaged.
    """
    metrics = read_rows(folder.table("metrics"), ["epoch"])
    if not metrics:
        raise FileNotFoundError(f"the run in {folder} has not finished an epoch yet: there is nothing to report")
    recipe, environment = folder.read_entries(), read_json(folder.environment)
    result = read_json(folder.result)
    if result and "metric" not in result:
        raise ValueError(
            f"{folder.result} is damaged: it names no metric; delete it and resume the run{folder.made_by()}"
        )
    # Of a run that is not over its environment says by what it is judged.
    about = result or environment
    metric = Metric.of(about) if "metric" in about else Metric("loss", higher_is_better=False)
    layers, energy = _read_layers(folder), _read_energy(folder)
    confusion = read_confusion(folder.table("confusion"))
    when, command = origin(environment)
    _, reached = _reached(result, metric, metrics)
    return Page(
        f"{subtitle(recipe)}: {folder.path.name}",
        method(recipe),
        "" if math.isnan(reached) else metric.format(reached),
        _verdict(result, metric, metrics, layers, confusion),
        _facts(result, metric, energy),
        [
            _learning(metrics, metric, figure(about, "chance")),
            *_results(result, metric),
            *by_class(confusion),
            *_gradients(folder, layers),
            *_firing(layers),
            *_energy(energy),
            _cost(folder, result, environment),
            *_recipe(recipe),
            *pairs("Calibrated surrogate widths", read_json(folder.widths)),
            *pairs("Environment", {key: value for key, value in environment.items() if key not in TOLD}),
        ],
        when,
        command,
    )


def subtitle(recipe: dict[str, Any]) -> str:
    """Return what a recipe is about in few words."""
    network, data = (entry(recipe, f"{part}.kind") for part in ("network", "data"))
    return f"{network or entry(recipe, 'network') or 'a network'} on {data or 'data'}"


def method(recipe: dict[str, Any]) -> str:
    """Return how a recipe trains, in few words; only the task where it is not of this library's components."""
    task = str(entry(recipe, "task.kind") or "")
    try:
        words = method_text(from_dict(recipe).method)
    except (ValueError, TypeError):
        words = ""
    return ", ".join(each for each in (task, words) if each)


def origin(environment: dict[str, Any]) -> tuple[str, str]:
    """Return when and from what something was made, and by which command, as far as it was noted."""
    command = environment.get("command")
    commit, version = environment.get("commit"), environment.get("shortcut_snn", __version__)
    date = str(environment.get("date") or "").replace("T", " ")
    known = [date, f"commit {str(commit)[:12]}" if commit else None, f"shortcut-snn {version}"]
    if isinstance(command, list) and command:
        # However it was started: this is what one types.
        ours = Path(str(command[0])).name in ("shortcut-snn", "__main__.py")
        command = shlex.join(map(str, ["shortcut-snn", *command[1:]] if ours else ["python", *command]))
    return ", ".join(str(each) for each in known if each), str(command or "")


def _reached(result: dict[str, Any], metric: Metric, metrics: list[Row]) -> tuple[str, float]:
    """On which data and what."""
    if not result:
        return "validation", metrics[-1].get(f"validation_{metric.name}", math.nan)
    for part in ("test", "validation"):
        if not math.isnan(found := figure(result, f"{part}_last.{metric.name}")):
            return part, found
    return "test", math.nan


def _verdict(
    result: dict[str, Any], metric: Metric, metrics: list[Row], layers: list[Row], confusion: Confusion | None
) -> list[str]:
    """What came out, in words."""
    said = []
    part, reached = _reached(result, metric, metrics)
    chance = figure(result, "chance")
    if not result:
        said.append(f"Not finished: {len(metrics)} epochs so far.")
    if not math.isnan(reached):
        guessing = f"; guessing gives {metric.format(chance)}" if not math.isnan(chance) else ""
        nothing = bool(guessing) and not metric.is_above_chance(reached, chance)
        said.append(
            f"On {part} data the {metric.title} is {metric.format(reached)}{guessing}"
            + (": the network has learned nothing." if nothing else ".")
        )
    if confusion is not None and metric.name == "accuracy":
        low, high = confusion.interval
        said.append(
            f"On other samples like these {confusion.samples:,} it is between {metric.format(low)} and "
            f"{metric.format(high)} (95 % interval of this one network; another seed may differ by more)."
        )
    last = [row for row in layers if row["epoch"] == layers[-1]["epoch"]]
    if last:
        fields = [field.name for field in dataclasses.fields(LayerReport)]
        sentence = judge([LayerReport(**{name: row[name] for name in fields}) for row in last]).sentence
        said.append(f"The gradient in the last epoch is {sentence}." if sentence.startswith("healthy") else
                    f"The last epoch: {sentence}.")  # fmt: skip
    return said


def _facts(result: dict[str, Any], metric: Metric, energy: list[Row]) -> list[tuple[str, str]]:
    spikes, relus = _totals(result, energy)
    samples = {part: entry(result, f"samples.{part}") for part in ("train", "validation", "test")}
    facts = [
        (
            f"test {metric.title}, best epoch ({format_value(result.get('best_epoch'))})",
            metric.format(figure(result, f"test_best.{metric.name}")),
        ),
        ("chance", metric.format(figure(result, "chance"))),
        ("samples: train / validation / test", " / ".join(format_value(count) for count in samples.values())),
        ("parameters", format_value(figure(result, "parameters"))),
        ("firing rate", format_value(figure(result, "firing_rate"))),
        (
            "energy of an input",
            "-" if math.isnan(spikes) else f"{format_value(spikes / 1e3)} nJ (ReLUs {format_value(relus / 1e3)})",
        ),
    ]
    return [(name, value) for name, value in facts if value not in ("-", "- / - / -")]


def _totals(result: dict[str, Any], energy: list[Row]) -> tuple[float, float]:
    if energy:
        return sum(row["energy_pj"] for row in energy), sum(row["relu_energy_pj"] for row in energy)
    return figure(result, "energy_pj"), figure(result, "relu_energy_pj")


def _learning(metrics: list[Row], metric: Metric, chance: float) -> Section:
    def line(label: str, column: str, by: float = 1) -> chart.Line:
        return chart.Line(label, [(row["epoch"], by * row.get(column, math.nan)) for row in metrics])

    scale, name = metric.scale, metric.name
    # What is minimised may be the loss of several outputs, or of smoothed labels.
    own = "train_main_loss" if "train_main_loss" in metrics[0] else "train_loss"
    differs = any(row.get("train_loss") != row.get(own) for row in metrics)
    guessing = None if math.isnan(chance) else ("chance", scale * chance)
    panels = [
        ("loss of the network's own output", [("training", own, 1), ("validation", "validation_loss", 1)]),
        *(
            [("what is minimised, with the branches' loss or smoothed labels", [("", "train_loss", 1)])]
            if differs
            else []
        ),
        ("lambda, the weight of the branches", [("", "lambda", 1)]),
        ("learning rate", [("", "lr", 1)]),
        ("firing rate, spikes per neuron and time step", [("", "firing_rate", 1)]),
    ]
    if name != "loss":
        parts = [("validation", f"validation_{name}", scale), ("training", f"train_{name}", scale)]
        panels.insert(0, (metric.label(), [*parts, ("training, with branches", f"train_{name}_with_branches", scale)]))
    drawn = []
    for title, columns in panels:
        series = [line(label, column, by) for label, column, by in columns]
        known = [each for each in series if not all(math.isnan(value) for _, value in each.points)]
        mark = guessing if title == metric.label() else None
        bounds = (0, 100) if metric.fraction and mark else None
        drawn.append(chart.lines(title, known, "epoch", mark=mark, bounds=bounds))
    tables = [all_columns(metrics, "all figures of every epoch")]
    return Section("Learning", pictures=[each for each in drawn if each], tables=tables)


def _results(result: dict[str, Any], metric: Metric) -> list[Section]:
    found = {words: result[part] for part, words in PARTS.items() if isinstance(result.get(part), dict)}
    names = list(dict.fromkeys(name for values in found.values() for name in values))
    if not names:
        return []

    def cell(values: dict[str, Any], name: str) -> str:
        return metric.format(values.get(name)) if name == metric.name else format_value(values.get(name))

    rows = [[words, *(cell(values, name) for name in names)] for words, values in found.items()]
    best, chosen_on = format_value(result.get("best_epoch")), result.get("best_chosen_on", "nothing")
    text = f"The best epoch is {best}, chosen on {chosen_on}."
    return [Section("Results", text, tables=[Table(["", *(name.replace("_", " ") for name in names)], rows)])]


def _relative(values: dict[str, float]) -> dict[str, float]:
    """By layer, over that of the last layer."""
    last = next(reversed(values.values()), math.nan)
    return {name: value / last if last else math.nan for name, value in values.items()}


def _by_depth(what: str, epochs: Sequence[tuple[float, dict[str, float]]], ratio: bool) -> list[Markup]:
    """A map over depth and epochs, and the first and the last epoch as lines."""
    names = [name for name in epochs[0][1] if all(name in values for _, values in epochs)]
    if not any(math.isfinite(values[name]) for _, values in epochs for name in names):
        return []
    columns = [(f"epoch {format_value(epoch)}", [values[name] for name in names]) for epoch, values in epochs]
    chosen = {id(each): each for each in (columns[0], columns[len(columns) // 2], columns[-1])}
    series = [chart.Line(label, list(enumerate(values, 1))) for label, values in chosen.values()]
    return [
        chart.heat(f"{what}, input above", names, columns, ratio=ratio),
        chart.lines(f"{what}, from input to output", series, "layer", log=ratio, names=names),
    ]


def _gradients(folder: RunFolder, layers: list[Row]) -> list[Section]:
    rows = read_rows(folder.table("gradients"), ["epoch"])
    weights = [(row["epoch"], _relative({k: v for k, v in row.items() if k != "epoch"})) for row in rows]
    spikes = [(epoch, _relative(values)) for epoch, values in _over_epochs(layers, "norm")]
    found = spikes or weights
    if not found:
        return []
    where = "at the spikes" if spikes else "of the weights"
    drawn = _by_depth(f"gradient {where} / last layer", found, True)
    if not drawn:
        return []
    text = f"The gradient's size at each layer, over that at the last one, in each epoch. {RELATIVE}"
    tables = [all_columns(rows, "gradient RMS of each layer's weights", names=False)] if rows else []
    return [Section("Gradients by depth", text, drawn, tables)]


def _over_epochs(layers: list[Row], key: str) -> list[tuple[float, dict[str, float]]]:
    epochs: dict[float, dict[str, float]] = {}
    for row in layers:
        if on_chain(row["layer"]):
            epochs.setdefault(row["epoch"], {})[row["layer"]] = row[key]
    return list(epochs.items())


def _read_layers(folder: RunFolder) -> list[Row]:
    fields = [field.name for field in dataclasses.fields(LayerReport) if field.name != "layer"]
    return read_rows(folder.table("layers"), ["epoch", *fields], ["layer"])


def _firing(layers: list[Row]) -> list[Section]:
    if not layers:
        return []
    last = [row for row in layers if row["epoch"] == layers[-1]["epoch"]]
    text = (
        "Spikes per neuron and time step on one batch of each epoch. In the table, silent is the share of neurons that "
        "never fired."
    )
    drawn = _by_depth("firing rate", _over_epochs(layers, "rate"), False)
    return [Section("Firing", text, drawn, [all_columns(last, "each layer in the last epoch")])]


def _read_energy(folder: RunFolder) -> list[Row]:
    return read_rows(folder.table("energy"), ["energy_pj", "relu_energy_pj"], ["layer"])


def _energy(rows: list[Row]) -> list[Section]:
    if not rows:
        return []
    text = (
        "For one input: 0.9 pJ per AC, 4.6 pJ per MAC (45 nm; Horowitz, ISSCC 2014). "
        "Normalisations are folded; memory and the neurons' own updates are not counted. With memory, they are: 5 pJ "
        "for 32 bits in SRAM, accesses as Lemaire et al. (2022) count them, against the same network quantised to as "
        "many bits as its time steps tell apart (Yan et al., 2024)."
    )
    heights = {
        label: [row[key] / 1000 for row in rows]
        for label, key in (("spikes", "energy_pj"), ("the same network with ReLUs", "relu_energy_pj"))
    }
    drawn = [chart.bars("energy of an input by layer, nJ", [str(row["layer"]) for row in rows], heights)]
    fields = [field.name for field in dataclasses.fields(LayerEnergy)]
    # Runs of before memory was counted have none of it.
    if set(fields) <= set(rows[0]):
        layers = (LayerEnergy(**{name: row[name] for name in fields}) for row in rows)
        energy = EnergyReport(tuple(layers))
        drawn += [_break_even(energy)] if energy.spike_energy else []
    return [Section("Energy", text, drawn, [all_columns(rows, "operations and energy of each layer")])]


def _break_even(energy: EnergyReport) -> Markup:
    rate, even = energy.firing_rate, energy.break_even_rate
    rates = [0.0, *(each for each in (rate, even) if each > 0), 1.25 * max(rate, even, 0.01)]
    points = [(100 * each, energy.at(each) / 1000) for each in sorted(rates)]
    series = [chart.Line("spiking", points), chart.Line("this network", [(100 * rate, energy.total_energy / 1000)])]
    quantised = f"quantised to {energy.bits:.0f} bits", energy.quantised_energy / 1000
    title = "energy of an input with memory by firing rate, nJ"
    return chart.lines(title, series, "firing rate, %", mark=quantised, whole=False)


def _cost(folder: RunFolder, result: dict[str, Any], environment: dict[str, Any]) -> Section:
    timing = read_rows(folder.table("timing"), ["epoch", "seconds"])
    known = [row["seconds"] for row in timing if math.isfinite(row["seconds"])]
    seconds, peak = figure(result, "seconds_per_step"), figure(result, "peak_bytes_per_step")
    threads, gpu = environment.get("cpu_threads"), environment.get("gpu")
    rows = [
        ("time in training, without validation and tests", format_duration(sum(known)) if known else "-"),
        ("time of an epoch (median)", f"{format_value(figure(result, 'seconds_per_epoch'))} s"),
        ("time of a step (median)", f"{format_value(seconds)} s"),
        ("memory of a step at its peak, over that at rest", "-" if math.isnan(peak) else f"{peak / 2**20:,.0f} MiB"),
        ("device", str(gpu) if gpu else f"CPU, {threads} threads" if threads else "-"),
    ]
    return Section("What it cost", tables=[Table((), [row for row in rows if row[1] not in ("-", "- s")])])


def _recipe(recipe: dict[str, Any]) -> list[Section]:
    """What a recipe says that nothing would say by itself, and all of it."""
    whole = Table((), texts(recipe), "the whole recipe")
    try:
        own, plain = from_dict(recipe).to_dict(), from_dict(_kinds(recipe)).to_dict()
    except (ValueError, TypeError):
        return [Section("Recipe", tables=[whole])]
    changed = {key: pair[1] for key, pair in recipe_differences(plain, own).items()}
    rows = [[key, value] for key, value in texts(_kinds(recipe)) + texts(changed)]
    return [Section("Recipe", "What differs from the defaults.", tables=[Table((), rows), whole])]


def _kinds(entries: dict[str, Any]) -> dict[str, Any]:
    """Only which components there are."""
    kept = {key: _kinds(value) if isinstance(value, dict) else value for key, value in entries.items()}
    return {key: value for key, value in kept.items() if key == "kind" or (isinstance(value, dict) and value)}


def pairs(title: str, entries: dict[str, Any]) -> list[Section]:
    """Return a section with nested entries, if there are any."""
    return [Section(title, tables=[Table((), texts(entries), "all entries")])] if entries else []
