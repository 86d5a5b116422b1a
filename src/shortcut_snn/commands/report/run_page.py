"""The page on a run."""

import dataclasses
import math
from functools import partial
from typing import Any

from ... import __version__
from ...analysis import plots
from ...analysis.layers import LayerReport
from ...analysis.verdict import judge
from ...files import read_json
from ...runs import RunFolder
from ...runs.tables import Metric, show
from .html import Page, Section, Table, all_columns, picture
from .reading import Row, entry, figure, read_rows, texts

PARTS = {
    "test_last": "test, last epoch",
    "test_best": "test, best epoch",
    "validation_last": "validation, last epoch",
    "validation_best": "validation, best epoch",
}


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
        raise ValueError(f"{folder.result} is damaged: it names no metric; delete it and resume the run")
    # Of a run that is not over its environment says by what it is judged.
    about = result or environment
    metric = Metric.of(about) if "metric" in about else Metric("loss", higher_is_better=False)
    layers, energy = _read_layers(folder), _read_energy(folder)
    learned = picture(
        "curves", partial(plots.curves, metrics, metric=metric.name, what=metric.label(), scale=metric.scale)
    )
    return Page(
        f"Run {folder.path.name}",
        subtitle(recipe),
        _facts(result, metric, metrics, energy),
        [
            Section("Learning", pictures=[learned], table=all_columns(metrics), folded=True),
            *_results(result, metric),
            *_gradients(folder),
            *_layers(layers),
            *_energy(energy),
            *pairs("Calibrated surrogate widths", read_json(folder.widths)),
            *pairs("Recipe", recipe),
            *pairs("Environment", environment),
        ],
        _verdict(result, metric, layers),
        *origin(environment),
    )


def subtitle(recipe: dict[str, Any]) -> str:
    """Return what a recipe is about in few words."""
    network, data, task = (entry(recipe, f"{part}.kind") for part in ("network", "data", "task"))
    return ", ".join(str(part) for part in (f"{network or 'a network'} on {data or 'data'}", task) if part)


def origin(environment: dict[str, Any]) -> tuple[str, str]:
    """Return when and from what something was made, and by which command, as far as it was noted."""
    command = environment.get("command")
    commit, version = environment.get("commit"), environment.get("shortcut_snn", __version__)
    known = [environment.get("date"), f"commit {str(commit)[:12]}" if commit else None, f"shortcut-snn {version}"]
    words = " ".join(map(str, command)) if isinstance(command, list) else str(command or "")
    return ", ".join(str(each) for each in known if each), words


def _facts(result: dict[str, Any], metric: Metric, metrics: list[Row], energy: list[Row]) -> list[tuple[str, str]]:
    if not result:
        last = metrics[-1].get(f"validation_{metric.name}", math.nan)
        facts = [("state", f"not finished: {len(metrics)} epochs so far")]
        return facts if math.isnan(last) else [*facts, (f"validation {metric.words}, last epoch", metric.show(last))]
    spikes, relus = (sum(row[key] for row in energy) for key in ("energy_pj", "relu_energy_pj"))
    if not energy:
        spikes, relus = figure(result, "energy_pj"), figure(result, "relu_energy_pj")
    seconds = figure(result, "seconds_per_epoch")
    ratios = [show(figure(result, f"gradient_ratio_{when}_epoch")) for when in ("first", "last")]
    facts = [
        (f"test {metric.words}, last epoch", metric.show(figure(result, f"test_last.{metric.name}"))),
        (
            f"test {metric.words}, best epoch ({show(result.get('best_epoch'))})",
            metric.show(figure(result, f"test_best.{metric.name}")),
        ),
        ("chance", metric.show(figure(result, "chance"))),
        ("parameters", show(figure(result, "parameters"))),
        ("firing rate", show(figure(result, "firing_rate"))),
        ("gradient, first layer / last: epoch 1, end", ", ".join(ratios) if set(ratios) != {"-"} else "-"),
        ("time", "-" if math.isnan(seconds) else f"{seconds:.1f} s / epoch"),
        ("energy of an input", "-" if math.isnan(spikes) else f"{show(spikes / 1e3)} nJ (ReLUs {show(relus / 1e3)})"),
    ]
    return [(name, value) for name, value in facts if value != "-"]


def _verdict(result: dict[str, Any], metric: Metric, layers: list[Row]) -> list[str]:
    """What came out, in words."""
    said = []
    reached, chance = figure(result, f"test_last.{metric.name}"), figure(result, "chance")
    if not math.isnan(reached):
        guessing = f"; guessing gives {metric.show(chance)}" if not math.isnan(chance) else ""
        nothing = bool(guessing) and not metric.better(reached, chance)
        said.append(
            f"On test data the {metric.words} is {metric.show(reached)}{guessing}"
            + (": the network has learned nothing." if nothing else ".")
        )
    last = [row for row in layers if row["epoch"] == layers[-1]["epoch"]]
    if last:
        fields = [field.name for field in dataclasses.fields(LayerReport)]
        sentence = judge([LayerReport(**{name: row[name] for name in fields}) for row in last]).sentence
        said.append(f"The gradient in the last epoch is {sentence}." if sentence.startswith("healthy") else
                    f"The last epoch: {sentence}.")  # fmt: skip
    return said


def _results(result: dict[str, Any], metric: Metric) -> list[Section]:
    found = {words: result[part] for part, words in PARTS.items() if isinstance(result.get(part), dict)}
    names = list(dict.fromkeys(name for values in found.values() for name in values))
    if not names:
        return []

    def cell(values: dict[str, Any], name: str) -> str:
        return metric.show(values.get(name)) if name == metric.name else show(values.get(name))

    rows = [[words, *(cell(values, name) for name in names)] for words, values in found.items()]
    text = f"The best epoch is {show(result.get('best_epoch'))}, chosen on {result.get('best_chosen_on', 'nothing')}."
    return [Section("Results", text, table=Table(["", *(name.replace("_", " ") for name in names)], rows))]


def _gradients(folder: RunFolder) -> list[Section]:
    rows = read_rows(folder.table("gradients"), ["epoch"])
    if not rows:
        return []
    drawn = picture("gradients", partial(plots.by_layer, rows, title="gradients", what="RMS of the weights' gradient"))
    table = all_columns(rows, names=False)
    return [Section("Gradients of the weights", "On the last batch of each epoch.", [drawn], table, folded=True)]


def _read_layers(folder: RunFolder) -> list[Row]:
    fields = [field.name for field in dataclasses.fields(LayerReport) if field.name != "layer"]
    return read_rows(folder.table("layers"), ["epoch", *fields], ["layer"])


def _layers(rows: list[Row]) -> list[Section]:
    if not rows:
        return []

    def over_epochs(key: str, scale: int = 1) -> list[Row]:
        epochs: dict[float, Row] = {}
        for row in rows:
            epochs.setdefault(row["epoch"], {"epoch": row["epoch"]})[row["layer"]] = scale * row[key]
        return list(epochs.values())

    drawn = [
        picture("spikes", partial(plots.by_layer, over_epochs("norm"), title="gradients", what="norm at the spikes")),
        picture("rates", partial(plots.by_layer, over_epochs("rate"), title="firing rates", what="spikes", log=False)),
        picture("silent", partial(plots.by_layer, over_epochs("silent", 100), title="silent", what="%", log=False)),
    ]
    last = [row for row in rows if row["epoch"] == rows[-1]["epoch"]]
    text = (
        "One batch of each epoch; rates are spikes per neuron and time step, silent is the share of neurons that never "
        "fired. The table is of the last epoch."
    )
    return [Section("Spiking layers", text, drawn, all_columns(last), folded=True)]


def _read_energy(folder: RunFolder) -> list[Row]:
    return read_rows(folder.table("energy"), ["energy_pj", "relu_energy_pj"], ["layer"])


def _energy(rows: list[Row]) -> list[Section]:
    if not rows:
        return []
    text = (
        "For one input: 0.9 pJ an addition, 4.6 pJ a multiplication with addition (45 nm; Horowitz, ISSCC 2014). "
        "Normalisations are folded; memory and the neurons' own updates are not counted."
    )
    return [Section("Energy", text, [picture("energy", partial(plots.energy, rows))], all_columns(rows), folded=True)]


def pairs(title: str, entries: dict[str, Any]) -> list[Section]:
    """Return a section with nested entries, if there are any."""
    return [Section(title, table=Table((), texts(entries)), folded=True)] if entries else []
