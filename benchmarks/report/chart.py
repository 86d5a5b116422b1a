"""The chart: time and memory of a training step."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..plan import NETWORKS
from .figures import Figure

# What is drawn, by the start of a contender's name; of several variants, the one with the least median.
SERIES = {
    "shortcut-snn": ("shortcut-snn", "#1b6ca8"),
    "spikingjelly": ("SpikingJelly, best setting", "#d1495b"),
    "snntorch, loop": ("snnTorch, loop over time", "#edae49"),
    "snntorch": ("snnTorch, best setting", "#b07d2b"),
    "norse": ("Norse", "#66a182"),
    "convolutions only": ("lower bound: convolutions only", "#9a9a9a"),
    "linear layer only": ("lower bound: linear layer only", "#9a9a9a"),
}
TIME_STEPS = 4
ORDER = [f"{network}-{width}" for network, width, _ in NETWORKS]


def draw(path: Path, figures: Sequence[Figure], about: Sequence[str]) -> None:
    """Draw the chart: a column a network, time at one T above and memory against T below; then the neuron."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    allocator = "default" if any(f.allocator == "default" for f in figures) else "tuned"
    shown = [f for f in figures if f.allocator == allocator]
    there = sorted({f.cell.workload for f in shown if f.cell.part == "networks"})
    workloads = sorted(there, key=lambda w: ORDER.index(w) if w in ORDER else len(ORDER))
    columns = len(workloads) + any(f.cell.part == "neuron" for f in shown)
    fig, axes = plt.subplots(2, max(columns, 1), figsize=(4.6 * max(columns, 1), 7.2), squeeze=False)
    for column, workload in enumerate(workloads):
        mine = [f for f in shown if f.cell.part == "networks" and f.cell.workload == workload]
        _times(axes[0][column], mine)
        _memory(axes[1][column], mine)
    if columns > len(workloads):
        mine = [f for f in shown if f.cell.part == "neuron"]
        _neurons(axes[0][-1], mine, "step", 1.0, "seconds per step")
        _neurons(axes[1][-1], mine, "memory", 1e6, "peak memory of a step, MB")
    handles: dict[str, Any] = {}
    for axis in axes.flat:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
        axis.spines[["top", "right"]].set_visible(False)
    fig.legend(handles.values(), handles.keys(), loc="upper center", ncols=3, frameon=False, fontsize=9)
    fig.text(0.01, 0.005, "\n".join([*about, f"{allocator} allocator"]), fontsize=6.5, color="#555555")
    fig.tight_layout(rect=(0, 0.06, 1, 0.92))
    fig.savefig(path, dpi=150)
    plt.close(fig)


def _best(figures: Sequence[Figure], quantity: str, start: str, keep: Callable[[Figure], bool]) -> Figure | None:
    """Return the least of a series; a name belongs to the longest start that fits."""
    fits = [
        f
        for f in figures
        if f.quantity == quantity
        and keep(f)
        and "memory-optimised" not in f.contender
        and max((s for s in SERIES if f.contender.startswith(s)), key=len, default="") == start
    ]
    return min(fits, key=lambda f: f.median, default=None)


def _times(axis: Any, figures: Sequence[Figure]) -> None:
    steps = sorted({f.cell.time_steps for f in figures}, key=lambda t: (abs(t - TIME_STEPS), t))[0]
    precisions = sorted({f.cell.precision for f in figures}, reverse=True)
    cell = figures[0].cell
    present = [s for s in SERIES if any(_best([f], "step", s, lambda _: True) for f in figures)]
    height = 0.8 / max(len(present), 1)
    for row, start in enumerate(present):
        label, colour = SERIES[start]
        for group, precision in enumerate(precisions):
            best = _best(figures, "step", start, lambda f, p=precision: f.cell.precision == p and f.cell.time_steps == steps)  # noqa: E501  # fmt: skip
            if best is None:
                continue
            y = group + (row - (len(present) - 1) / 2) * height
            spread = [[best.median - best.lowest], [best.highest - best.median]]
            axis.barh(y, best.median, height * 0.9, color=colour, xerr=spread, label=label, error_kw={"lw": 0.8})
            ratio = f" {best.to_lower_bound:.2f}x" if best.to_lower_bound else ""
            axis.text(best.highest, y, ratio, va="center", fontsize=7)
    axis.set_yticks(range(len(precisions)), precisions)
    axis.invert_yaxis()
    axis.margins(x=0.15)
    axis.set_xlim(left=0)
    axis.set_xlabel("seconds per training step (and ratio to the convolutions only)")
    axis.set_title(f"{cell.network}, {cell.width} wide, batch {cell.batch}, T = {steps}", fontsize=10)


def _memory(axis: Any, figures: Sequence[Figure]) -> None:
    steps = sorted({f.cell.time_steps for f in figures})
    for start, (label, colour) in SERIES.items():
        for precision, style in (("float32", "-"), ("bfloat16", ":")):
            found = [
                _best(
                    figures,
                    "memory",
                    start,
                    lambda f, p=precision, t=t: f.cell.precision == p and f.cell.time_steps == t,
                )
                for t in steps
            ]
            points = [(f.cell.time_steps, f.median / 1e6) for f in found if f is not None]
            if points:
                named = {"label": label} if style == "-" else {}
                axis.plot(*zip(*points, strict=True), style, marker="o", ms=3, color=colour, **named)
    axis.set_xticks(steps)
    axis.set_ylim(bottom=0)
    axis.set_xlabel("time steps T (dotted: bfloat16)")
    axis.set_ylabel("peak memory of a step, MB")


def _neurons(axis: Any, figures: Sequence[Figure], quantity: str, unit: float, label: str) -> None:
    widths = sorted({f.cell.width for f in figures})
    for start, (name, colour) in SERIES.items():
        found = [_best(figures, quantity, start, lambda f, w=w: f.cell.width == w) for w in widths]
        points = [(f.cell.width, f.median / unit) for f in found if f is not None]
        if points:
            axis.plot(*zip(*points, strict=True), "-", marker="o", ms=3, color=colour, label=name)
    cell = figures[0].cell
    axis.set_title(f"Linear(n, n) + LIF, batch {cell.batch}, T = {cell.time_steps}", fontsize=10)
    axis.set_xlabel("neurons n")
    axis.set_ylabel(label)
    axis.set_xscale("log", base=2)
    axis.set_xticks(widths, [str(width) for width in widths])
    axis.set_yscale("log")
