"""Pictures of runs, gradients and comparisons, as PNG or, by the name of the file, SVG."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from ..energy import EnergyReport
from ..files import replacing

Row = Mapping[str, Any]
# Okabe and Ito's colours: told apart by colour-blind readers.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
PARTS = {"": COLOURS[2], "training": COLOURS[0], "validation": COLOURS[1], "training, with branches": COLOURS[5]}
# So many names of layers can be read along an axis.
NAMES = 24
# So many epochs can be told apart in one picture.
EPOCHS = 6


def _save(figure: Figure, path: Path) -> None:
    # The same picture is the same file: no dates, no random names. Text in an SVG stays text.
    metadata = {"Date": None, "Creator": None} if path.suffix == ".svg" else {"Software": None}
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": path.stem}), replacing(path) as temporary:
        figure.savefig(temporary, dpi=130, metadata=metadata)


def _figure(width: float = 7.0, height: float = 4.2) -> Figure:
    return Figure(figsize=(width, height), layout="constrained")


def _values(values: Sequence[Any], log: bool = False, scale: float = 1.0) -> list[float]:
    """Numbers to draw: NaN, which leaves a gap, where there is none or where a logarithm has none."""
    numbers = [math.nan if value is None or value == "" else scale * float(value) for value in values]
    return [value if math.isfinite(value) and (value > 0 or not log) else math.nan for value in numbers]


def _recorded(values: Sequence[float]) -> bool:
    return not all(map(math.isnan, values))


def _count(axes: Axes, what: str) -> None:
    """Let the x axis count something."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(what)


def _layers(axes: Axes, names: Sequence[str]) -> None:
    """Let the x axis run over layers, and name as many of them as can be read."""
    every = max(1, math.ceil(len(names) / NAMES))
    axes.set_xticks(range(1, len(names) + 1, every), names[::every], rotation=90, fontsize="x-small")
    axes.set_xlabel("layer, from input to output")


def curves(
    rows: Sequence[Row], path: Path, metric: str, what: str, scale: float = 1, chance: float | None = None
) -> None:
    """Draw what a run recorded after each epoch: metric, loss, branch weight, learning rate and firing rate.

    Args:
        rows: one for each epoch: ``"epoch"``, and columns as in ``metrics.csv``.
        path: where the figure goes.
        metric: the task's metric, whose columns are ``train_<metric>`` and ``validation_<metric>``.
        what: the metric with its unit, for the title.
        scale: factor by which the metric is multiplied.
        chance: the metric's chance level, multiplied too; None draws no line.
    """
    # The minimised loss may be that of several outputs, or of smoothed labels, which validation does not have.
    own = "train_main_loss" if "train_main_loss" in rows[0] else "train_loss"
    panels = {
        what: {
            "training": f"train_{metric}",
            "validation": f"validation_{metric}",
            "training, with branches": f"train_{metric}_with_branches",
        },
        "loss of the network's own output": {"training": own, "validation": "validation_loss"},
        "lambda (weight of the branches)": {"": "lambda"},
        "learning rate": {"": "lr"},
        "firing rate (spikes per neuron and time step)": {"": "firing_rate"},
    }
    if metric == "loss":
        del panels[what]
    epochs = [int(row["epoch"]) for row in rows]
    drawn: dict[str, dict[str, list[float]]] = {}
    for title, columns in panels.items():
        lines = {
            part: _values([row.get(key) for row in rows], scale=scale if title == what else 1)
            for part, key in columns.items()
        }
        lines = {part: values for part, values in lines.items() if _recorded(values)}
        # Without branches lambda is 0 throughout.
        if lines and not (title.startswith("lambda") and not any(lines[""])):
            drawn[title] = lines
    height = math.ceil(len(drawn) / 2)
    figure = _figure(9.0, 3.2 * max(height, 1))
    for index, (title, lines) in enumerate(drawn.items()):
        axes = figure.add_subplot(height, 2, index + 1)
        for part, values in lines.items():
            # A part has one colour in all panels.
            axes.plot(epochs, values, color=PARTS[part], marker=".", label=part)
        if title == what and chance is not None:
            axes.axhline(chance, color="0.5", linestyle=":", label="chance")
        axes.set_title(title, fontsize="medium")
        axes.grid(alpha=0.3)
        _count(axes, "epoch")
        if len(axes.get_legend_handles_labels()[1]) > 1:
            axes.legend(fontsize="small")
    _save(figure, path)


def by_layer(rows: Sequence[Row], path: Path, title: str, what: str, log: bool = True) -> None:
    """Draw a figure of each layer, a line for each of a few epochs from the first to the last, dark to light.

    Args:
        rows: of an epoch each: ``"epoch"``, and a number for every layer.
        path: where the picture goes.
        title: what the picture is called.
        what: what is drawn, for the axis.
        log: on a logarithmic scale.
    """
    figure = _figure(height=4.8)
    axes = figure.subplots()
    # An epoch whose last step was left out has no figures.
    names = [name for name in max(rows, key=len) if name != "epoch"]
    # More lines than this hide each other.
    shown = [rows[round(place)] for place in np.linspace(0, len(rows) - 1, min(len(rows), EPOCHS))]
    for row in shown:
        colour = mpl.colormaps["viridis"]((row["epoch"] - 1) / max(len(rows) - 1, 1))
        values = _values([row.get(name) for name in names], log)
        axes.plot(
            range(1, len(names) + 1),
            values,
            color=colour,
            linewidth=1,
            marker=".",
            markersize=3,
            label=f"epoch {row['epoch']}",
        )
    axes.set(ylabel=what, title=title)
    figure.legend(loc="outside right center", fontsize="small")
    _log(axes, log)
    _layers(axes, names)
    axes.grid(alpha=0.3)
    _save(figure, path)


def _log(axes: Axes, log: bool) -> None:
    # An axis without a positive number has no logarithm.
    if log and any((np.asarray(line.get_ydata(), dtype=float) > 0).any() for line in axes.lines):
        axes.set_yscale("log")


def gradient_reports(rms: Mapping[str, Mapping[str, float]], first: Mapping[str, Tensor], path: Path) -> None:
    """Draw gradient RMS by layer and the first layer's histogram for several methods (paper, figure 2)."""
    figure = _figure(11.0, 4.8)
    layers, histogram = figure.subplots(1, 2)
    widest = max(float(values.abs().quantile(0.99)) for values in first.values()) or 1e-12
    for (name, values), colour in zip(rms.items(), COLOURS, strict=False):
        drawn = _values(list(values.values()), log=True)
        layers.plot(range(1, len(values) + 1), drawn, color=colour, marker=".", label=name)
        histogram.hist(
            first[name].clamp(-widest, widest).numpy(), bins=81, range=(-widest, widest), color=colour, alpha=0.5,
            label=name,
        )  # fmt: skip
    layers.set(ylabel="gradient RMS of the weights", title="gradient by layer")
    _log(layers, True)
    _layers(layers, list(next(iter(rms.values()))))
    histogram.set(xlabel="gradient of the first layer's weights", ylabel="number of weights", title="first layer")
    for axes in (layers, histogram):
        axes.grid(alpha=0.3)
        axes.legend()
    _save(figure, path)


def energy(report: EnergyReport, path: Path) -> None:
    """Draw energy with memory against the firing rate, spiking and quantised, and where each layer stands.

    Args:
        report: of a network.
        path: where the picture goes.
    """
    figure = _figure(11.0, 4.8)
    whole, layers = figure.subplots(1, 2)
    rate, even = 100 * report.firing_rate, 100 * report.break_even_rate
    ends = [0.0, 1.25 * max([1.0, *(each for each in (rate, even) if each > 0)])]
    whole.plot(ends, [report.at(end / 100) / 1000 for end in ends], color=COLOURS[0], label="spiking")
    quantised = f"ANN quantised to {report.bits} bits"
    whole.axhline(report.quantised_energy / 1000, color=COLOURS[1], linestyle="--", label=quantised)
    whole.plot(rate, report.total_energy / 1000, "o", color=COLOURS[0], label="this network")
    whole.axvline(even, color="0.5", linestyle=":", label="break-even")
    whole.set(xlabel="firing rate, %", ylabel="energy of an input with memory, nJ", title="the network")
    whole.set_ylim(bottom=0)
    xs = range(1, len(report.layers) + 1)
    layers.plot(xs, [100 * layer.firing_rate for layer in report.layers], "o", color=COLOURS[0], label="firing rate")
    evens = [100 * layer.break_even_rate for layer in report.layers]
    layers.plot(xs, evens, "_", color="0.5", markersize=9, markeredgewidth=2, label="break-even")
    layers.set(ylabel="firing rate of its inputs, %", title="its layers")
    layers.set_ylim(bottom=0)
    _layers(layers, [layer.layer for layer in report.layers])
    for axes in (whole, layers):
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    _save(figure, path)


def comparison(
    labels: Sequence[str],
    values: Sequence[Sequence[float]],
    intervals: Sequence[float],
    path: Path,
    what: str,
    chance: float | None = None,
) -> None:
    """Draw mean, interval and single runs of a metric for several methods.

    Args:
        labels: the methods.
        values: of each, the runs' metrics.
        intervals: of each, half the width of the mean's interval; NaN draws none.
        path: where the picture goes.
        what: the metric, for the axis.
        chance: where a line marks what guessing would give.
    """
    figure = _figure(height=1.2 + 0.45 * len(labels))
    axes = figure.subplots()
    for place, (runs, interval) in enumerate(zip(values, intervals, strict=True)):
        axes.errorbar(sum(runs) / len(runs), place, xerr=interval, fmt="o", color=COLOURS[0], capsize=4)
        axes.plot(runs, [place] * len(runs), "|", color=COLOURS[1], markersize=10)
    if chance is not None:
        axes.axvline(chance, color="0.5", linestyle=":")
        axes.annotate(" chance", (chance, 0.02), xycoords=("data", "axes fraction"), color="0.4", fontsize="small")
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set(xlabel=what, title="mean with 95 % interval; each run a stroke")
    axes.grid(alpha=0.3, axis="x")
    _save(figure, path)


@dataclass(frozen=True)
class Panel:
    """Curves of several methods: each method's mean over its runs as a line, and the range of the runs as a band.

    Args:
        title: the quantity, with its unit.
        xlabel: the quantity of the x axis.
        runs: by method, the x and the y values of each run.
        log: whether the y axis is logarithmic.
        layers: the names of the layers at x = 1, 2, ...; empty if x is a quantity.
        chance: a level to mark.
    """

    title: str
    xlabel: str
    runs: Mapping[str, Sequence[tuple[Sequence[float], Sequence[float]]]]
    log: bool = False
    layers: Sequence[str] = ()
    chance: float | None = None

    def draw(self, axes: Axes) -> None:
        """Draw the panel."""
        for index, (method, runs) in enumerate(self.runs.items()):
            colour = COLOURS[index % len(COLOURS)]
            style = ("-", "--", ":", "-.")[index // len(COLOURS) % 4]
            # Of runs with different lengths the part that all have is drawn.
            xs = [sum(values) / len(values) for values in zip(*(x for x, _ in runs), strict=False)]
            columns = [_values(values, self.log) for values in zip(*(y for _, y in runs), strict=False)][: len(xs)]
            means = [sum(values) / len(values) for values in columns]
            axes.plot(xs[: len(means)], means, color=colour, linestyle=style, marker=".", label=method)
            if len(runs) > 1:
                low, high = list(map(min, columns)), list(map(max, columns))
                axes.fill_between(xs[: len(means)], low, high, color=colour, alpha=0.15, linewidth=0)
        if self.chance is not None:
            axes.axhline(self.chance, color="0.5", linestyle=":", linewidth=1)
            axes.annotate("chance", (0.99, self.chance), (0, 3), ("axes fraction", "data"), "offset points",
                          ha="right", color="0.4", fontsize="small")  # fmt: skip
        _log(axes, self.log)
        axes.set_title(self.title, fontsize="medium")
        axes.grid(alpha=0.3)
        if self.layers:
            _layers(axes, self.layers)
        elif self.xlabel == "epoch":
            _count(axes, self.xlabel)
        else:
            axes.set_xlabel(self.xlabel)


def method_panels(panels: Sequence[Panel], path: Path) -> None:
    """Draw panels in two columns, with the methods named once below them.

    Args:
        panels: each has the same methods in the same order.
        path: where the figure goes.
    """
    height = math.ceil(len(panels) / 2)
    figure = _figure(10.0, 0.6 + 3.6 * height)
    axes = [figure.add_subplot(height, 2, index + 1) for index in range(len(panels))]
    for panel, panel_axes in zip(panels, axes, strict=True):
        panel.draw(panel_axes)
    handles, labels = axes[0].get_legend_handles_labels()
    if len(labels) > 1:
        figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize="small")
    _save(figure, path)
