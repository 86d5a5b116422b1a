"""How far the methods are from vanilla, one row for each table of ``studies/evidence.py``.

    python studies/evidence_chart.py PICTURE CSV ...

The CSVs are OUT/SET-TABLE.csv of the study; PICTURE is a PNG or SVG.
"""

import argparse
import csv
from pathlib import Path

from matplotlib.figure import Figure

from shortcut_snn.diagnosis.plots import COLOURS
from shortcut_snn.diagnosis.statistics import mean_interval

METHODS = {
    "shortcut": "shortcut (lambda stays 1)",
    "evolutionary": "evolutionary (the paper)",
    "vanilla calibrate=true": "vanilla, calibrated surrogates",
    "evolutionary calibrate=true": "evolutionary, calibrated surrogates",
    "evolutionary objective=loss_sum taps=blocks calibrate=true": "calibrated (recommended)",
}


def differences(path: Path) -> dict[str, tuple[float, float]]:
    """Return mean and half interval of the paired differences from vanilla by method, in points of accuracy."""
    with path.open(newline="", encoding="utf-8") as file:
        runs = list(csv.DictReader(file))
    # The entry and the column had other names when the tables in docs/results were made.
    accuracy = {
        (run["variant"].replace("surrogate.calibrate=True", "calibrate=true"), run["seed"]): 100
        * float(run.get("test_last.accuracy") or run["test_accuracy_last"])
        for run in runs
    }
    seeds = [seed for variant, seed in accuracy if variant == "vanilla"]
    found = {}
    for variant in METHODS:
        pairs = [accuracy[variant, s] - accuracy["vanilla", s] for s in seeds if (variant, s) in accuracy]
        if pairs:
            found[variant] = mean_interval(pairs)
    return found


def main() -> None:
    """Read the tables and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("tables", type=Path, nargs="+", metavar="CSV")
    options = parser.parse_args()
    figure = Figure(figsize=(8.5, 1.4 + 0.85 * len(options.tables)), layout="constrained")
    axes = figure.subplots()
    found = [differences(path) for path in options.tables]
    for place, (colour, (variant, label)) in enumerate(zip(COLOURS, METHODS.items(), strict=False)):
        rows = [(row + 0.15 * (place - 2), *table[variant]) for row, table in enumerate(found) if variant in table]
        heights, means, halves = zip(*rows, strict=True)
        axes.errorbar(means, heights, xerr=halves, fmt="o", color=colour, label=label, capsize=2, markersize=4)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(options.tables)), [path.stem.removeprefix("evidence-") for path in options.tables])
    axes.invert_yaxis()
    axes.set(xlabel="accuracy after the last epoch against vanilla, points, paired, 95 % interval")
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside upper center", ncols=2)
    figure.savefig(options.picture, dpi=130, metadata={"Software": None} if options.picture.suffix == ".png" else None)


if __name__ == "__main__":
    main()
