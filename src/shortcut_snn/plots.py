"""Draw runs, gradients, energy and comparisons with matplotlib, as PNG or SVG by the name of the file."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from ._utils.files import replacing
from .energy import EnergyReport
from .measurement.gradients import GradientReport

# Okabe and Ito's colours, which colour-blind readers can distinguish.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
PICOJOULE = 1e-12  # in joules


def new_figure(width: float = 7.0, height: float = 4.2) -> Figure:
    """Return an empty figure of a size in inches, whose parts do not overlap."""
    return Figure(figsize=(width, height), layout="constrained")


def finish_axes(axes: Axes, *, log: bool = False, legend: bool = False) -> None:
    """Add a grid, and optionally a legend and a logarithmic y axis, in the style of all figures."""
    axes.grid(alpha=0.3)
    # An axis without a positive number has no logarithm.
    if log and any((np.asarray(line.get_ydata(), dtype=float) > 0).any() for line in axes.lines):
        axes.set_yscale("log")
    if legend:
        axes.legend(fontsize="small")


def save_figure(figure: Figure, path: Path) -> None:
    """Save a figure so that the same figure gives the same file: no dates or random names; SVG keeps its text."""
    metadata = {"Date": None, "Creator": None} if path.suffix == ".svg" else {"Software": None}
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": path.stem}), replacing(path) as temporary:
        figure.savefig(temporary, dpi=130, metadata=metadata)


def curves(
    rows: Sequence[Mapping[str, Any]],
    path: Path,
    metric: str,
    metric_label: str,
    scale: float = 1,
    chance: float | None = None,
) -> None:
    """Draw metric, loss, lambda, learning rate and firing rate of a run over epochs, from the rows of ``metrics.csv``.

    ``chance`` is the metric of a guess, scaled.
    """

    def panel(title: str, columns: Mapping[str, str], scale: float = 1, chance: float | None = None) -> Panel:
        epochs = [int(row["epoch"]) for row in rows]
        lines = {part: _numbers([row.get(key) for row in rows], scale=scale) for part, key in columns.items()}
        shown = {part: [(epochs, line)] for part, line in lines.items() if not all(map(math.isnan, line))}
        return Panel(title, "epoch", shown, chance=chance)

    metric_columns = {
        "training": f"train_{metric}",
        "validation": f"validation_{metric}",
        "training, with branches": f"train_{metric}_with_branches",
    }
    # The loss that is minimised may be one of several outputs or of smoothed labels, which validation does not have.
    train_loss = "train_main_loss" if "train_main_loss" in rows[0] else "train_loss"
    panels = [] if metric == "loss" else [panel(metric_label, metric_columns, scale, chance)]
    panels += [
        panel("loss of the network's own output", {"training": train_loss, "validation": "validation_loss"}),
        panel("lambda (weight of the branches)", {"training": "lambda"}),
        panel("learning rate", {"training": "lr"}),
        panel("firing rate (spikes per neuron and time step)", {"training": "firing_rate"}),
    ]
    method_panels(panels, path)


def by_layer(rows: Sequence[Mapping[str, Any]], path: Path, title: str, label: str, log: bool = True) -> None:
    """Draw one value of each layer, a line for each of at most 6 rows, an epoch each, dark to light."""
    figure = new_figure(height=4.8)
    axes = figure.subplots()
    # An epoch whose last step was skipped has no numbers.
    names = [name for name in max(rows, key=len) if name != "epoch"]
    # More lines hide each other.
    for index in np.linspace(0, len(rows) - 1, min(len(rows), 6)):
        row = rows[round(index)]
        colour = mpl.colormaps["viridis"]((row["epoch"] - 1) / max(len(rows) - 1, 1))
        values = _numbers([row.get(name) for name in names], log)
        style: dict[str, Any] = {"linewidth": 1, "marker": ".", "markersize": 3}
        axes.plot(range(1, len(names) + 1), values, color=colour, label=f"epoch {row['epoch']}", **style)
    axes.set(ylabel=label, title=title)
    figure.legend(loc="outside right center", fontsize="small")
    _label_layers(axes, names)
    finish_axes(axes, log=log)
    save_figure(figure, path)


def gradient_reports(reports: Mapping[str, GradientReport], path: Path) -> None:
    """Draw the gradient RMS by layer and the first layer's histogram for several methods (paper, figure 2)."""
    figure = new_figure(11.0, 4.8)
    layers, histogram = figure.subplots(1, 2)
    limit = max(float(report.first.abs().quantile(0.99)) for report in reports.values()) or 1e-12
    for (name, report), colour in zip(reports.items(), COLOURS, strict=False):
        shown = _numbers(list(report.rms.values()), log=True)
        layers.plot(range(1, len(shown) + 1), shown, color=colour, marker=".", label=name)
        clamped = report.first.clamp(-limit, limit).numpy()
        histogram.hist(clamped, bins=81, range=(-limit, limit), color=colour, alpha=0.5, label=name)
    layers.set(ylabel="gradient RMS of the weights", title="gradient by layer")
    _label_layers(layers, list(next(iter(reports.values())).rms))
    histogram.set(xlabel="gradient of the first layer's weights", ylabel="number of weights", title="first layer")
    finish_axes(layers, log=True, legend=True)
    finish_axes(histogram, legend=True)
    save_figure(figure, path)


def energy(report: EnergyReport, path: Path) -> None:
    """Draw the energy with memory over the firing rate, spiking and quantised, and the rates of all layers."""
    figure = new_figure(11.0, 4.8)
    network, layers = figure.subplots(1, 2)
    rate, break_even = 100 * report.firing_rate, 100 * report.break_even_rate
    ends = [0.0, 1.25 * max([1.0, *(value for value in (rate, break_even) if value > 0)])]
    network.plot(ends, [PICOJOULE * report.at(end / 100) for end in ends], color=COLOURS[0], label="spiking")
    quantised = f"ANN quantised to {report.bits} bits"
    network.axhline(PICOJOULE * report.quantised_energy, color=COLOURS[1], linestyle="--", label=quantised)
    network.plot(rate, PICOJOULE * report.total_energy, "o", color=COLOURS[0], label="this network")
    if break_even > 0:
        network.axvline(break_even, color="0.5", linestyle=":", label="break-even")
    network.set(xlabel="firing rate, %", ylabel="energy of an input with memory", title="the network")
    network.yaxis.set_major_formatter(EngFormatter("J"))
    numbers = range(1, len(report.layers) + 1)
    rates = [100 * layer.firing_rate for layer in report.layers]
    break_evens = [100 * layer.break_even_rate for layer in report.layers]
    layers.plot(numbers, rates, "o", color=COLOURS[0], label="firing rate")
    layers.plot(numbers, break_evens, "_", color="0.5", markersize=9, markeredgewidth=2, label="break-even")
    layers.set(ylabel="firing rate of its inputs, %", title="its layers")
    _label_layers(layers, [layer.layer for layer in report.layers])
    for axes in (network, layers):
        axes.set_ylim(bottom=0)
        finish_axes(axes, legend=True)
    save_figure(figure, path)


def comparison(
    labels: Sequence[str],
    values: Sequence[Sequence[float]],
    intervals: Sequence[float],
    path: Path,
    label: str,
    chance: float | None = None,
    limits: tuple[float, float] | None = None,
) -> None:
    """Draw the mean, half its interval (NaN for none) and the single runs of a metric for several methods.

    ``chance`` is the metric of a guess. ``limits`` are the least and the greatest value that the metric can have.
    """
    figure = new_figure(height=1.2 + 0.45 * len(labels))
    axes = figure.subplots()
    for y, (runs, interval) in enumerate(zip(values, intervals, strict=True)):
        axes.errorbar(sum(runs) / len(runs), y, xerr=interval, fmt="o", color=COLOURS[0], capsize=4)
        axes.plot(runs, [y] * len(runs), "|", color=COLOURS[1], markersize=10)
    if chance is not None:
        axes.axvline(chance, color="0.5", linestyle=":")
        axes.annotate(" chance", (chance, 0.02), xycoords=("data", "axes fraction"), color="0.4", fontsize="small")
    if limits is not None:
        low, high = axes.get_xlim()
        axes.set_xlim(max(low, limits[0]), min(high, limits[1]))
    axes.set_yticks(range(len(labels)), map(_literal, labels))
    axes.set_ylim(len(labels) - 0.5, -0.5)
    has_interval = any(map(math.isfinite, intervals))
    axes.set(xlabel=label, title=f"mean{' with 95 % interval' if has_interval else ''}; each run a stroke")
    axes.grid(alpha=0.3, axis="x")
    save_figure(figure, path)


def confusion(counts: Sequence[Sequence[int]], classes: Sequence[str], path: Path) -> None:
    """Draw a confusion matrix: the number of samples of each class (row) that were predicted as each class (column)."""
    matrix = np.array(counts)
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    size = len(classes)
    figure = new_figure(3.0 + 0.36 * size, 2.2 + 0.32 * size)
    axes = figure.subplots()
    image = axes.imshow(100 * shares, cmap="Blues", vmin=0, vmax=100)
    for (row, column), count in np.ndenumerate(matrix):
        if count:
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize="small")
    names = list(map(_literal, classes))
    axes.set_xticks(range(size), names, rotation=90)
    axes.set_yticks(range(size), names)
    axes.set(xlabel="predicted class", ylabel="class")
    figure.colorbar(image, label="share of the class, %")
    save_figure(figure, path)


@dataclass(frozen=True)
class Panel:
    """Curves of several methods: each method's mean over its runs as a line, and the range of the runs as a band.

    ``layers`` are the names of the layers at x = 1, 2, ...; without them x is a quantity.
    """

    title: str
    xlabel: str
    runs: Mapping[str, Sequence[tuple[Sequence[float], Sequence[float]]]]
    log: bool = False
    layers: Sequence[str] = ()
    chance: float | None = None

    @property
    def has_values(self) -> bool:
        """True if the panel shows a value other than 0: without branches lambda is 0 throughout."""
        values = (value for runs in self.runs.values() for _, ys in runs for value in ys)
        return any(math.isfinite(value) and value != 0 for value in values)

    def draw(self, axes: Axes, methods: Sequence[str]) -> None:
        """Draw the panel; a method's colour follows from its place among all methods."""
        for method, runs in self.runs.items():
            index = methods.index(method)
            colour = COLOURS[index % len(COLOURS)]
            style = ("-", "--", ":", "-.")[index // len(COLOURS) % 4]
            # Of runs with different lengths the part that all have is drawn.
            xs = [sum(values) / len(values) for values in zip(*(x for x, _ in runs), strict=False)]
            columns = [_numbers(values, self.log) for values in zip(*(y for _, y in runs), strict=False)][: len(xs)]
            means = [sum(values) / len(values) for values in columns]
            axes.plot(xs[: len(means)], means, color=colour, linestyle=style, marker=".", label=_literal(method))
            if len(runs) > 1:
                low, high = list(map(min, columns)), list(map(max, columns))
                axes.fill_between(xs[: len(means)], low, high, color=colour, alpha=0.15, linewidth=0)
        if self.chance is not None:
            axes.axhline(self.chance, color="0.5", linestyle=":", linewidth=1)
            axes.annotate("chance", (0.99, self.chance), (0, 3), ("axes fraction", "data"), "offset points",
                          ha="right", color="0.4", fontsize="small")  # fmt: skip
        axes.set_title(self.title, fontsize="medium")
        axes.set_xlabel(self.xlabel)
        finish_axes(axes, log=self.log)
        if self.layers:
            _label_layers(axes, self.layers)
        elif self.xlabel == "epoch":
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def anytime(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw accuracy over energy and over time, of anytime inference and of fixed numbers of time steps."""
    groups = {"fixed number of time steps": "T = ", "anytime": "anytime, "}

    def panel(label: str, key: str, scale: float = 1.0) -> Panel:
        runs = {}
        for name, prefix in groups.items():
            points = sorted(
                (scale * row[key], 100 * row["accuracy"]) for row in rows if row["network"].startswith(prefix)
            )
            runs[name] = [([x for x, _ in points], [y for _, y in points])]
        return Panel("test accuracy, %", label, runs)

    panels = [
        panel("energy of an input with memory, µJ", "total_energy_pj", 1e-6),
        panel("milliseconds of an input, one at a time, one core", "ms_batch_1"),
    ]
    method_panels(panels, path)


def method_panels(panels: Sequence[Panel], path: Path) -> None:
    """Draw the panels that have values in two columns, with the methods named once above them."""
    panels = [panel for panel in panels if panel.has_values]
    methods = list(dict.fromkeys(method for panel in panels for method in panel.runs))
    height = max(1, math.ceil(len(panels) / 2))
    figure = new_figure(10.0, 0.6 + 3.6 * height)
    handles: dict[str, Any] = {}
    for index, panel in enumerate(panels):
        axes = figure.add_subplot(height, 2, index + 1)
        panel.draw(axes, methods)
        handles |= dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
    if len(handles) > 1:
        figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=3, fontsize="small")
    save_figure(figure, path)


def _literal(name: str) -> str:
    """Return a name of the user's that matplotlib shows as it is: text between two ``$`` would be a formula."""
    return name.replace("$", r"\$")


def _numbers(values: Sequence[Any], log: bool = False, scale: float = 1.0) -> list[float]:
    """Return numbers to draw. NaN leaves a gap where a value is missing, infinite or without a logarithm."""
    numbers = [math.nan if value is None or value == "" else scale * float(value) for value in values]
    return [value if math.isfinite(value) and (value > 0 or not log) else math.nan for value in numbers]


def _label_layers(axes: Axes, names: Sequence[str]) -> None:
    """Label the x axis with as many names of layers as can be read."""
    step = max(1, math.ceil(len(names) / 24))
    axes.set_xticks(range(1, len(names) + 1, step), names[::step], rotation=90, fontsize="x-small")
    axes.set_xlabel("layer, from input to output")
