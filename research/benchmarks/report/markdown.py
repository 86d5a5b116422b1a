"""The report as Markdown."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from shortcut_snn._utils.markdown import markdown_table

from ..results import Result
from .figures import Figure

_HOW = """\
Each contender runs in its own process; they take turns, and one runs while the others wait. A step is forward, loss
and backward; the optimizer's step is the same for all and left out. Seconds are medians over the timed runs of all
turns, with minimum and maximum. Memory is the peak of a step minus that of the idle process: the resident set on a
CPU, allocated memory on a GPU. "Dense convolutions"
are the network's convolutions and classifier alone, forward and backward, in the same precision and the better layout.

"snntorch, loop over time" runs the whole network once per time step, as its tutorials do, so its batch
normalisation has the statistics of each step; all others have them over time and batch together. It is compared
with running statistics only. "spikingjelly" has a float32 membrane under autocast too, as the other libraries
do; "bfloat16 membrane" is its unchanged `LIFNode`. "memory-optimised" is its `memopt` at level 1: blocks are
recomputed and their spikes kept as bits."""


def markdown(results: Sequence[Result], figures: Sequence[Figure]) -> str:
    """Return the report."""
    if not results:
        return "# Benchmark\n\nNothing is measured yet.\n"
    parts = [
        "# Benchmark",
        about(results),
        "## Time and memory",
        _HOW,
        *_cells(results, figures),
        "## Agreement",
        "Each contender is compared with this package before it is timed: to rounding on a few small images in "
        "float32, and in statistics on the workload that is timed. Single spikes flip with the order of a sum, and an "
        "untrained deep network amplifies that. A contender that does not agree is not timed. Differences of loss and "
        "gradient are relative. Those of rates are in spikes per neuron and step (the largest of all layers), those of "
        "logits in standard deviations. The table has the largest differences.",
        agreement_table(results),
    ]
    return "\n\n".join(parts) + "\n"


def about(results: Sequence[Result]) -> str:
    """Return machine, versions and dates as a list."""
    lines = [f"- {line}" for line in about_lines(results)]
    return "\n".join(lines)


def about_lines(results: Sequence[Result]) -> list[str]:
    """Return machine, versions and dates, one line each."""
    machine, versions = results[0].about["machine"], results[0].about["versions"]
    whens = sorted(result.about["when"] for result in results)
    commits = sorted({result.about["commit"] for result in results} - {""})
    gpu = f"{machine['gpu']}, " if "gpu" in machine else ""
    instructions = f" ({', '.join(machine['instructions'])})" if machine["instructions"] else ""
    return [
        f"{gpu}{machine['processor']}{instructions}, {machine['threads']} threads, "
        f"{machine.get('memory_gib', '?')} GiB, {machine['system']}",
        ", ".join(f"{name} {version}" for name, version in versions.items()),
        f"code {results[0].about['code']}{', commit ' if commits else ''}{', '.join(commits)}; "
        f"measured {whens[0]}{'' if whens[0] == whens[-1] else ' to ' + whens[-1]}",
    ]


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _cells(results: Sequence[Result], figures: Sequence[Figure]) -> list[str]:
    parts = []
    errors = {r.cell: {n: v["error"] for n, v in r.contenders.items() if "error" in v} for r in results}

    def place(figure: Figure) -> tuple[Any, ...]:
        cell = figure.cell
        return (cell.part != "networks", cell.part, cell.workload, cell.precision != "float32", cell.time_steps,
                cell.slug)  # fmt: skip

    for _, group in groupby(sorted(figures, key=place), place):
        found = list(group)
        cell = found[0].cell
        by_name: dict[str, dict[str, Figure]] = {}
        for figure in found:
            by_name.setdefault(figure.contender, {})[figure.quantity] = figure
        rows = [_row(name, quantities) for name, quantities in by_name.items()]
        rows += [[name, why, *[""] * 7] for name, why in errors[cell].items()]
        rate = "" if cell.rate is None else f", {cell.rate:.0%} spikes"
        parts.append(
            f"### {cell.part}: {cell.workload}, batch {cell.batch}, T = {cell.time_steps}, {cell.precision}{rate}"
        )
        other = "without" if cell.part == "method" else "best peer"
        header = [
            "", "step, s", "/ dense", f"/ {other}", "inference, s", "/ dense", f"/ {other}", "memory, MB",
            f"/ {other}",
        ]  # fmt: skip
        parts.append(markdown_table(header, rows))
    return parts


def _row(name: str, quantities: dict[str, Figure]) -> list[str]:
    row = [name]
    for quantity in ("step", "inference"):
        figure = quantities.get(quantity)
        if figure is None:
            row += ["", "", ""]
            continue
        spread = f"{figure.median:.4f} ({figure.lowest:.4f} to {figure.highest:.4f})"
        row += [spread, _ratio(figure.to_dense), _ratio(figure.to_peer)]
    memory = quantities.get("memory")
    if memory is None:
        return [*row, "", ""]
    spread = f"{memory.median / 1e6:.0f} ({memory.lowest / 1e6:.0f} to {memory.highest / 1e6:.0f})"
    return [*row, spread, _ratio(memory.to_peer)]


def agreement_table(results: Sequence[Result]) -> str:
    """Return the checks of every cell: how many agree, and the greatest differences."""
    rows = []
    for cell, agreement in {result.cell: result.agreement for result in results}.items():
        for check in dict.fromkeys(a["check"] for a in agreement):
            found = [a for a in agreement if a["check"] == check]
            # The first is the reference.
            shared, apart = found[0], [a["contender"] for a in found if not a["agreed"]]
            most = [f"{max(a[key] for a in found):.0e}" for key in ("loss", "rate", "gradient", "logits")]
            own = [f"{shared['own_loss']:.5f}", f"{shared['own_rate']:.5f}", f"{shared['own_gradient']:.4g}"]
            rows.append([cell.slug, check, *own, *most, f"**not {', '.join(apart)}**" if apart else "all"])
    return markdown_table(
        [
            "workload",
            "check",
            "loss",
            "mean rate",
            "gradient",
            "difference: loss",
            "rate",
            "gradient",
            "logits",
            "agree",
        ],
        rows,
    )
