"""The chart: time and memory of a training step."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from shortcut_snn.plots import COLOURS

from ..plan import NETWORKS
from .figures import Figure

# What is drawn, by the start of a contender's name; of several variants, the one with the least median.
SERIES = {
    "shortcut-snn": ("shortcut-snn", COLOURS[0]),
    "spikingjelly": ("SpikingJelly, faster memory layout", COLOURS[1]),
    "snntorch, loop": ("snnTorch, loop over time", COLOURS[4]),
    "snntorch": ("snnTorch, fused in time, faster layout", COLOURS[3]),
    "norse": ("Norse", COLOURS[2]),
    "dense convolutions": ("dense convolutions alone", "0.5"),
    "dense linear layer": ("dense linear layer alone", "0.5"),
}
TIME_STEPS = 4
ORDER = [f"{network}-{width}" for network, width, _ in NETWORKS]


def draw(path: Path, figures: Sequence[Figure], about: Sequence[str]) -> None:
    """Draw the chart: a column a network, time at one T above and memory against T below; then the neuron."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    there = sorted({f.cell.workload for f in figures if f.cell.part == "networks"})
    workloads = sorted(there, key=lambda w: ORDER.index(w) if w in ORDER else len(ORDER))
    # Other neurons, of one width, are left to the tables.
    neurons = [f for f in figures if f.cell.part == "neuron" and f.cell.network == "linear-lif"]
    columns = len(workloads) + bool(neurons)
    fig, axes = plt.subplots(2, max(columns, 1), figsize=(4.6 * max(columns, 1), 7.2), squeeze=False)
    for column, workload in enumerate(workloads):
        mine = [f for f in figures if f.cell.part == "networks" and f.cell.workload == workload]
        _bars(axes[0][column], mine)
        _lines(axes[1][column], mine, "memory", lambda f: f.cell.time_steps)
        axes[1][column].set_xlabel("time steps T (dotted: bfloat16)")
    if neurons:
        for axis, quantity in zip(axes[:, -1], ("step", "memory"), strict=True):
            _lines(axis, neurons, quantity, lambda f: f.cell.width)
            axis.set_xlabel("neurons n of Linear(n, n) + LIF")
            axis.set_xscale("log", base=2)
            axis.set_yscale("log")
    handles: dict[str, Any] = {}
    for axis in axes.flat:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
        axis.spines[["top", "right"]].set_visible(False)
    fig.legend(handles.values(), handles.keys(), loc="upper center", ncols=3, frameon=False, fontsize=9)
    fig.text(0.01, 0.005, "\n".join(about), fontsize=6.5, color="#555555")
    fig.tight_layout(rect=(0, 0.06, 1, 0.92))
    fig.savefig(path, dpi=150)
    plt.close(fig)


def draw_rates(path: Path, figures: Sequence[Figure], about: Sequence[str]) -> None:
    """Draw time against the mean firing rate: a column a network, training above and inference below."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    there = {f.cell.workload for f in figures}
    workloads = sorted(there, key=lambda w: ORDER.index(w) if w in ORDER else len(ORDER))
    panels = [("networks", "step", "training step"), ("inference", "inference", "inference")]
    panels = [panel for panel in panels if any(f.cell.part == panel[0] for f in figures)]
    fig, axes = plt.subplots(
        len(panels), len(workloads), figsize=(4.6 * len(workloads), 3.4 * len(panels)), squeeze=False
    )
    for row, (part, quantity, title) in zip(axes, panels, strict=True):
        for axis, workload in zip(row, workloads, strict=True):
            mine = [f for f in figures if (f.cell.part, f.cell.workload) == (part, workload)]
            for start, members in _series(mine, quantity).items():
                label, colour = SERIES[start]
                points: dict[float, float] = {}
                for f in members:
                    rate = 100 * (f.cell.rate or 0.0)
                    points[rate] = min(f.median, points.get(rate, float("inf")))
                axis.plot(*zip(*sorted(points.items()), strict=True), "-o", ms=3, color=colour, label=label)
            axis.set_ylim(bottom=0)
            axis.set_xlabel("spikes per neuron and time step, %")
            axis.set_ylabel(f"seconds, {title}")
            cell = mine[0].cell
            axis.set_title(f"{cell.network}, {cell.width} wide, batch {cell.batch}", fontsize=10)
            axis.spines[["top", "right"]].set_visible(False)
    handles, labels = axes[0][0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="upper center", ncols=3, frameon=False, fontsize=8)
    fig.text(0.01, 0.005, "\n".join(about), fontsize=5.5, color="#555555")
    fig.tight_layout(rect=(0, 0.08, 1, 0.9))
    fig.savefig(path, dpi=120)
    plt.close(fig)


def _series(figures: Sequence[Figure], quantity: str) -> dict[str, list[Figure]]:
    """Return the figures of a quantity by series; a name belongs to the longest start that fits."""
    found: dict[str, list[Figure]] = {start: [] for start in SERIES}
    for figure in figures:
        starts = [start for start in SERIES if figure.contender.startswith(start)]
        if figure.quantity == quantity and starts and "memory-optimised" not in figure.contender:
            found[max(starts, key=len)].append(figure)
    return {start: members for start, members in found.items() if members}


def _bars(axis: Any, figures: Sequence[Figure]) -> None:
    """Draw seconds of a step at T = 4, or the T nearest to it."""
    steps = min((f.cell.time_steps for f in figures), key=lambda t: (abs(t - TIME_STEPS), t))
    series = _series([f for f in figures if f.cell.time_steps == steps], "step")
    precisions = sorted({f.cell.precision for f in figures}, reverse=True)
    height = 0.8 / max(len(series), 1)
    for row, (start, members) in enumerate(series.items()):
        label, colour = SERIES[start]
        for group, precision in enumerate(precisions):
            best = min((f for f in members if f.cell.precision == precision), key=lambda f: f.median, default=None)
            if best is None:
                continue
            y = group + (row - (len(series) - 1) / 2) * height
            spread = [[best.median - best.lowest], [best.highest - best.median]]
            axis.barh(y, best.median, height * 0.9, color=colour, xerr=spread, label=label, error_kw={"lw": 0.8})
            ratio = f" {best.to_dense:.2f}x" if best.to_dense else ""
            axis.text(best.highest, y, ratio, va="center", fontsize=7)
    axis.set_yticks(range(len(precisions)), precisions)
    axis.invert_yaxis()
    axis.margins(x=0.15)
    axis.set_xlim(left=0)
    axis.set_xlabel("seconds per training step (and ratio to the dense convolutions)")
    cell = figures[0].cell
    axis.set_title(f"{cell.network}, {cell.width} wide, batch {cell.batch}, T = {steps}", fontsize=10)


def _lines(axis: Any, figures: Sequence[Figure], quantity: str, x_of: Callable[[Figure], int]) -> None:
    unit, name = (1e6, "peak memory of a step, MB") if quantity == "memory" else (1.0, "seconds per step")
    for start, members in _series(figures, quantity).items():
        label, colour = SERIES[start]
        for precision, style in (("float32", "-"), ("bfloat16", ":")):
            points: dict[int, float] = {}
            for figure in members:
                if figure.cell.precision == precision:
                    points[x_of(figure)] = min(figure.median / unit, points.get(x_of(figure), float("inf")))
            if points:
                shown = label if style == "-" else None
                axis.plot(
                    *zip(*sorted(points.items()), strict=True), style, marker="o", ms=3, color=colour, label=shown
                )
    ticks = sorted({x_of(figure) for figure in figures})
    axis.set_xticks(ticks, [str(tick) for tick in ticks])
    axis.set_ylabel(name)
