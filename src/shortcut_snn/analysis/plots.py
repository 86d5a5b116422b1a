"""Pictures of runs, gradients and comparisons, as PNG or, by the name of the file, SVG."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from torch import Tensor

from ..files import replacing

Row = Mapping[str, Any]
# Okabe and Ito's colours: told apart by colour-blind readers.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")


def _figure(width: float = 7.0, height: float = 4.2) -> Figure:
    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: Figure, path: Path) -> None:
    # The same picture is the same file: no dates, no random names. Text in an SVG stays text.
    metadata = {"Date": None, "Creator": None} if path.suffix == ".svg" else {"Software": None}
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": path.stem}), replacing(path) as temporary:
        figure.savefig(temporary, dpi=130, metadata=metadata)


def _epochs(rows: Sequence[Row]) -> list[int]:
    return [int(row["epoch"]) + 1 for row in rows]


def curves(rows: Sequence[Row], path: Path) -> None:
    """Draw loss and accuracy over epochs."""
    figure = _figure(9.0)
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for part, colour in zip(("train", "validation"), COLOURS, strict=False):
            if f"{part}_{name}" not in rows[0]:
                continue
            axes.plot(_epochs(rows), [row[f"{part}_{name}"] for row in rows], color=colour, marker=".", label=part)
        axes.set(xlabel="epoch", ylabel=name, title=name)
        axes.grid(alpha=0.3)
        axes.legend()
    _save(figure, path)


def balance(rows: Sequence[Row], path: Path) -> None:
    """Draw lambda at the end of each epoch."""
    figure = _figure(height=3.2)
    axes = figure.subplots()
    axes.plot(_epochs(rows), [row["lambda"] for row in rows], color=COLOURS[0], marker=".")
    axes.set(xlabel="epoch", ylabel="lambda", title="weight of the branches")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    _save(figure, path)


def gradients(rows: Sequence[Row], path: Path) -> None:
    """Draw each layer's gradient RMS, one line an epoch, dark to light."""
    by_layer(rows, path, "gradients", "gradient RMS of the weights")


def by_layer(rows: Sequence[Row], path: Path, title: str, what: str, log: bool = True) -> None:
    """Draw a figure of each layer, one line an epoch, dark to light.

    Args:
        rows: of an epoch each: ``"epoch"``, and a number for every layer.
        path: where the picture goes.
        title: what the picture is called.
        what: what is drawn, for the axis.
        log: on a logarithmic scale.
    """
    figure = _figure()
    axes = figure.subplots()
    colours = mpl.colormaps["viridis"]
    for index, row in enumerate(rows):
        values = [value for name, value in row.items() if name != "epoch"]
        axes.plot(range(1, len(values) + 1), values, color=colours(index / max(len(rows) - 1, 1)), linewidth=1)
    axes.set(yscale="log" if log else "linear", xlabel="layer (1 is the shallowest)", ylabel=what)
    axes.set_title(f"{title} by layer, epoch 1 (dark) to {len(rows)} (light)")
    axes.grid(alpha=0.3)
    _save(figure, path)


def gradient_reports(rms: Mapping[str, Mapping[str, float]], first: Mapping[str, Tensor], path: Path) -> None:
    """Draw gradient RMS by layer and the first layer's histogram for several methods (paper, figure 2)."""
    figure = _figure(11.0)
    layers, histogram = figure.subplots(1, 2)
    widest = max(float(values.abs().quantile(0.99)) for values in first.values()) or 1e-12
    for (name, by_layer), colour in zip(rms.items(), COLOURS, strict=False):
        layers.plot(range(1, len(by_layer) + 1), list(by_layer.values()), color=colour, marker=".", label=name)
        histogram.hist(
            first[name].clamp(-widest, widest).numpy(), bins=81, range=(-widest, widest), color=colour, alpha=0.5,
            label=name,
        )  # fmt: skip
    layers.set(yscale="log", xlabel="layer (1 is the shallowest)", ylabel="gradient RMS of the weights")
    layers.set_title("gradient by layer")
    histogram.set(xlabel="gradient of the first layer's weights", ylabel="number of weights")
    histogram.set_title("first layer")
    for axes in (layers, histogram):
        axes.grid(alpha=0.3)
        axes.legend()
    _save(figure, path)


def comparison(
    labels: Sequence[str], values: Sequence[Sequence[float]], intervals: Sequence[float], path: Path
) -> None:
    """Draw mean, interval and single runs of last-epoch test accuracy for several methods."""
    figure = _figure(height=1.2 + 0.45 * len(labels))
    axes = figure.subplots()
    for place, (runs, interval) in enumerate(zip(values, intervals, strict=True)):
        mean = sum(runs) / len(runs)
        axes.errorbar(mean, place, xerr=interval, fmt="o", color=COLOURS[0], capsize=4)
        axes.plot(runs, [place] * len(runs), "|", color=COLOURS[1], markersize=10)
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.set(xlabel="test accuracy after the last epoch, %", title="mean with 95 % interval; each run a stroke")
    axes.grid(alpha=0.3, axis="x")
    _save(figure, path)


def energy(layers: Sequence[Row], path: Path) -> None:
    """Draw each layer's energy for one input, with spikes and with ReLUs."""
    figure = _figure(9.0)
    axes = figure.subplots()
    places = range(1, len(layers) + 1)
    for key, label, colour, shift in (
        ("energy_pj", "spikes", COLOURS[0], -0.2),
        ("relu_energy_pj", "ReLUs", COLOURS[1], 0.2),
    ):
        heights = [row[key] / 1000 for row in layers]
        axes.bar([place + shift for place in places], heights, 0.4, color=colour, label=label)
    axes.set(xlabel="convolution or linear layer (1 is the shallowest)", ylabel="energy of an input, nJ")
    axes.set_title("energy by layer (45 nm)")
    axes.grid(alpha=0.3, axis="y")
    axes.legend()
    _save(figure, path)


def several(
    lines: Mapping[str, Sequence[Sequence[float]]],
    path: Path,
    title: str,
    what: str,
    log: bool = False,
    across: str = "epoch",
) -> None:
    """Draw a figure over epochs or layers for several methods: the mean over runs, and each run as a thin line.

    Args:
        lines: by method, the runs' values by epoch or layer.
        path: where the picture goes.
        title: what the picture is called.
        what: what is drawn, for the axis.
        log: on a logarithmic scale.
        across: what runs along the other axis.
    """
    figure = _figure(9.0)
    axes = figure.subplots()
    for place, (name, runs) in enumerate(lines.items()):
        colour = COLOURS[place % len(COLOURS)]
        for run in runs:
            axes.plot(range(1, len(run) + 1), run, color=colour, alpha=0.3, linewidth=0.8)
        means = [sum(values) / len(values) for values in zip(*runs, strict=False)]
        axes.plot(range(1, len(means) + 1), means, color=colour, marker=".", label=name)
    axes.set(yscale="log" if log else "linear", xlabel=across, ylabel=what, title=title)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    _save(figure, path)
