"""The tables of ``research/studies/claim.py`` in Markdown, and accuracy by depth and block as a picture.

    python research/studies/claim_tables.py OUT/TABLE.csv ... [--picture depth.png] [--budget budget.png] [--tuning]

Means over seeds with 95 % intervals (Student's t), and differences from vanilla paired by seed. A run that failed
counts as guessing, and is counted. Where a method was run for long at several learning rates, it goes by the one that
fits the training data best after the last epoch; the others stand in rows of their own. Runs of fewer epochs than the
longest of their setting do too. ``--tuning`` prints the short runs too. ``--budget`` is for tables whose runs differ in
epochs: accuracy by epochs, as a table and a picture.
"""

import argparse
import csv
from collections.abc import Sequence, Set
from pathlib import Path
from statistics import fmean, median

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from shortcut_snn._utils.markdown import markdown_table
from shortcut_snn._utils.statistics import mean_interval, with_interval
from shortcut_snn.plots import COLOURS

Row = dict[str, str]
# What the picture shows, with the names in its legend and on its axis.
METHODS = {
    "vanilla": "baseline",
    "loss_sum": "loss_sum",
    "initialised": "initialised",
    "initialised, Muon": "initialised, Muon",
    "stages_and_steps": "stages_and_steps",
    "evolutionary": "evolutionary (the paper's)",
    "shortcut": "shortcut (the paper's)",
}
EQUAL_TIME = "vanilla_equal_time"
BLOCKS = {"basic": "basic", "plain": "none", "sew": "SEW", "ms": "membrane"}
MARKERS = ("o", "s", "v", "D", "P", "^", "X")


def accuracy(row: Row, which: str = "test_last") -> float:
    """Return a run's accuracy in per cent."""
    return 100 * float(row["chance"] if row["failed"] else row[which])


def grouped(rows: Sequence[Row], phase: str) -> dict[str, dict[str, list[Row]]]:
    """Return the rows of a phase by setting and method.

    Final runs of fewer epochs than the longest are a setting of their own, and those at another learning rate than
    their method's own a method of their own.
    """
    found: dict[str, dict[str, list[Row]]] = {}
    budgets: dict[str, set[int]] = {}
    rows = [row for row in rows if row["phase"] == phase]
    for row in rows:
        if row["method"] != EQUAL_TIME:
            budgets.setdefault(row["setting"], set()).add(int(row["epochs"]))
    for row in rows:
        setting = row["setting"]
        if phase == "final":
            # A run at equal time is longer than the runs that it belongs to.
            own = [epochs for epochs in budgets.get(setting, ()) if epochs <= int(row["epochs"])]
            setting += f", {max(own)} epochs" if own and max(own) < max(budgets[setting]) else ""
        found.setdefault(setting, {}).setdefault(row["method"], []).append(row)
    return found if phase == "tune" else {setting: _by_rate(methods) for setting, methods in found.items()}


def _by_rate(methods: dict[str, list[Row]]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for method, runs in methods.items():
        own = _best_rate(runs)
        for row in runs:
            found.setdefault(method if row["lr"] == own else f"{method} at {row['lr']}", []).append(row)
    return found


def _best_rate(runs: Sequence[Row]) -> str:
    """Return the rate with the highest training accuracy, over the seeds that all rates have: no test data chooses."""
    rates: dict[str, dict[str, float]] = {}
    for row in runs:
        rates.setdefault(row["lr"], {})[row["seed"]] = -1.0 if row["failed"] else float(row.get("train_last") or -1)
    seeds = set.intersection(*(set(each) for each in rates.values())) or {row["seed"] for row in runs}
    return max(rates, key=lambda rate: fmean(rates[rate].get(seed, -1.0) for seed in seeds))


def finals(rows: Sequence[Row]) -> str:
    """Return the table of final runs."""
    best = any(row.get("test_best") for row in rows)
    columns = ["setting", "method", "lr", "epochs", "n", "failed", "test, last epoch, %"]
    columns += ["test, best epoch in validation, %"] * best
    columns += ["against vanilla, paired", "against vanilla at equal time, paired", "step, times vanilla's"]
    lines = []
    for setting, methods in grouped(rows, "final").items():
        bases = {name: methods.get(name, []) for name in ("vanilla", EQUAL_TIME)}
        for method, found in methods.items():
            line = [setting, method, _each(found, "lr"), _each(found, "epochs"), str(len(found))]
            line += [str(sum(bool(row["failed"]) for row in found)), _mean(list(map(accuracy, found)))]
            line += [_mean([accuracy(row, "test_best") for row in found if row.get("test_best")])] * best
            line += ["-" if method == name else _paired(found, base) for name, base in bases.items()]
            lines.append([*line, _cost(found, bases["vanilla"])])
    return markdown_table(columns, lines) + "\n"


def tuning(rows: Sequence[Row]) -> str:
    """Return the table of the short runs: validation accuracy after the last epoch, and of the best, by rate."""
    lines = []
    for setting, methods in grouped(rows, "tune").items():
        for method, found in methods.items():
            tried = [
                f"{row['lr']}: " + ("failed" if row["failed"] else f"{_percent(row, 'last')} ({_percent(row, 'best')})")
                for row in sorted(found, key=lambda row: float(row["lr"]))
            ]
            lines.append([setting, method, ", ".join(tried)])
    return markdown_table(["setting", "method", "lr: validation, last epoch (best), %"], lines) + "\n"


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw accuracy by block: a panel for each depth, and a colour and a marker for each method.

    Networks of different depth are not joined, for they differ in width and number of steps too. Other optimizers,
    another neuron and controls of one method are left to the tables, but for Muon where nothing else was run.
    """
    panels: dict[int, dict[str, dict[str, list[Row]]]] = {}
    for setting, methods in grouped(rows, "final").items():
        layers, _, block = setting.partition("-")
        if setting == "110-basic-muon":
            # Networks of this depth were initialised with Muon only.
            block, methods = "basic", {"initialised, Muon": methods["initialised"]}
        if layers.isdigit() and block in BLOCKS:
            shown = {name: runs for name, runs in methods.items() if name in METHODS}
            panels.setdefault(int(layers), {}).setdefault(block, {}).update(shown)
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    sizes = [len(panels[depth]) for depth in sorted(panels)]
    columns = figure.subplots(1, len(panels), sharey=True, squeeze=False, width_ratios=sizes)[0]
    for axes, depth in zip(columns, sorted(panels), strict=True):
        blocks = [block for block in BLOCKS if block in panels[depth]]
        for place, block in enumerate(blocks):
            shown = panels[depth][block]
            for step, (method, runs) in enumerate(shown.items()):
                mean, half = mean_interval(list(map(accuracy, runs)))
                style = list(METHODS).index(method)
                # One seed has no interval.
                axes.errorbar(place + 0.16 * (step - (len(shown) - 1) / 2), mean, yerr=half if half == half else 0.0,
                              color=COLOURS[style], marker=MARKERS[style], linestyle="", capsize=2)  # fmt: skip
        axes.set_xticks(range(len(blocks)), [BLOCKS[block] for block in blocks])
        axes.set_xlim(-0.6, len(blocks) - 0.4)
        axes.set(title=f"{depth} layers", xlabel="residual block")
        axes.grid(axis="y", alpha=0.3)
    columns[0].set_ylabel("test accuracy after the last epoch, %")
    _save(figure, {method for blocks in panels.values() for shown in blocks.values() for method in shown}, path)


def _save(figure: Figure, methods: Set[str], path: Path) -> None:
    """Save a picture with a legend of methods."""
    keys = [
        Line2D([], [], color=COLOURS[style], marker=MARKERS[style], linestyle="", label=label)
        for style, (method, label) in enumerate(METHODS.items())
        if method in methods
    ]
    figure.legend(handles=keys, loc="outside lower center", ncols=3, fontsize="small")
    figure.savefig(path, dpi=130, metadata={"Software": None} if path.suffix == ".png" else None)


def by_epochs(rows: Sequence[Row]) -> dict[str, dict[str, dict[int, list[float]]]]:
    """Return the test accuracies of final runs in per cent, by setting, method and number of epochs.

    Of several learning rates they are those of the method's own.
    """
    runs: dict[tuple[str, str, int], list[Row]] = {}
    for row in sorted(rows, key=lambda row: int(row["epochs"])):
        if row["phase"] == "final":
            runs.setdefault((row["setting"], row["method"], int(row["epochs"])), []).append(row)
    found: dict[str, dict[str, dict[int, list[float]]]] = {}
    for (setting, method, epochs), each in runs.items():
        own = _best_rate(each)
        accuracies = [accuracy(row) for row in each if row["lr"] == own]
        found.setdefault(setting, {}).setdefault(method, {})[epochs] = accuracies
    return found


def _numbers_of_epochs(found: dict[str, dict[str, dict[int, list[float]]]]) -> list[int]:
    return sorted({number for methods in found.values() for each in methods.values() for number in each})


def budgets(rows: Sequence[Row]) -> str:
    """Return the table of accuracy by number of epochs. Each run anneals its learning rate to 0."""
    found = by_epochs(rows)
    epochs = _numbers_of_epochs(found)
    lines = [
        [
            setting,
            method,
            *(f"{_mean(each[number])} ({len(each[number])})" if number in each else "-" for number in epochs),
        ]
        for setting, methods in found.items()
        for method, each in methods.items()
    ]
    return markdown_table(["setting", "method", *(f"{number} epochs (n)" for number in epochs)], lines) + "\n"


def draw_budgets(rows: Sequence[Row], path: Path) -> None:
    """Draw accuracy by number of epochs: a panel for each setting with several, and a line for each method."""
    found = by_epochs(rows)
    # A setting with one budget has no curve.
    found = {name: methods for name, methods in found.items() if max(map(len, methods.values())) > 1} or found
    figure = Figure(figsize=(3.3 * len(found), 3.8), layout="constrained")
    panels = figure.subplots(1, len(found), squeeze=False, sharex=True, sharey=True)[0]
    numbers = _numbers_of_epochs(found)
    for axes, (setting, methods) in zip(panels, found.items(), strict=True):
        for method, each in methods.items():
            if method not in METHODS:
                continue
            style = list(METHODS).index(method)
            intervals = [mean_interval(values) for values in each.values()]
            axes.errorbar(list(each), [mean for mean, _ in intervals],
                          yerr=[half if half == half else 0.0 for _, half in intervals],
                          color=COLOURS[style], marker=MARKERS[style], capsize=2)  # fmt: skip
        axes.set_xscale("log")
        axes.set_xticks(numbers, [str(number) for number in numbers])
        axes.minorticks_off()
        axes.set(title=setting, xlabel="epochs")
        axes.grid(alpha=0.3)
    panels[0].set(ylabel="test accuracy after the last epoch, %", ylim=(0, None))
    _save(figure, {method for methods in found.values() for method in methods}, path)


def _mean(values: list[float], sign: str = "") -> str:
    return with_interval(*mean_interval(values), sign=sign) if values else "-"


def _paired(rows: Sequence[Row], others: Sequence[Row]) -> str:
    base = {row["seed"]: accuracy(row) for row in others}
    return _mean([accuracy(row) - base[row["seed"]] for row in rows if row["seed"] in base], "+")


def _each(rows: Sequence[Row], name: str) -> str:
    return ", ".join(dict.fromkeys(row[name] for row in rows))


def _cost(rows: Sequence[Row], others: Sequence[Row]) -> str:
    """How much longer a step takes: the median over seeds, for the runs of one may be from another machine."""
    mine, base = (
        {row["seed"]: float(row["seconds_per_step"]) for row in each if row["seconds_per_step"]}
        for each in (rows, others)
    )
    times = [step / base[seed] for seed, step in mine.items() if seed in base]
    return f"{median(times):.2f}" if times else "-"


def _percent(row: Row, which: str) -> str:
    return f"{100 * float(row[f'validation_{which}']):.1f}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", type=Path, nargs="+", metavar="CSV")
    parser.add_argument("--picture", type=Path, help="of all tables' rows, whose settings are DEPTH-BLOCK")
    parser.add_argument("--budget", type=Path, help="picture of accuracy by number of epochs, of all tables' rows")
    parser.add_argument("--tuning", action="store_true")
    options = parser.parse_args(arguments)
    everything: list[Row] = []
    for path in options.tables:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [{key: value or "" for key, value in row.items()} for row in csv.DictReader(file)]
        everything += rows
        print(f"{path.stem}\n\n{finals(rows)}")
        if options.tuning:
            print(tuning(rows))
    if options.picture:
        draw(everything, options.picture)
    if options.budget:
        print(budgets(everything))
        draw_budgets(everything, options.budget)


if __name__ == "__main__":
    main()
