"""Cross-validate a recipe for N-MNIST, with one method or several, and write a table.

    python research/studies/nmnist_folds.py RECORDINGS.npz OUT [--recipe nmnist-small] [--methods vanilla] [--seeds 1]

RECORDINGS.npz holds N-MNIST's events (data.kind events_npz); its own split is not used. A run takes some seven minutes
on one core, and the same command skips finished runs. The accuracy of a seed is the mean over the folds, so each
recording is tested once. OUT/folds.csv has the runs, OUT/folds.md the table.
"""

import argparse
import csv
import subprocess
import sys
from pathlib import Path
from statistics import mean

from shortcut_snn._utils.files import write_csv, write_text
from shortcut_snn._utils.markdown import markdown_table
from shortcut_snn._utils.statistics import mean_interval, with_interval


def rows(runs: Path) -> list[dict[str, str]]:
    """Return the runs of a comparison whose variants are called ``METHOD ... fold=K``."""
    with runs.open(newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    for row in found:
        method, *entries = row.pop("variant").split()
        fold = next(entry.rpartition("=")[2] for entry in entries if "fold=" in entry)
        row |= {"method": method, "fold": fold}
    return found


def table(found: list[dict[str, str]], folds: int) -> str:
    """Return a Markdown table of means over folds: each seed's, their mean and the paired difference, ± 95 %."""
    seeds = sorted({int(row["seed"]) for row in found})
    methods = list(dict.fromkeys(row["method"] for row in found))
    columns = ["method", *(f"seed {seed}" for seed in seeds), "mean", f"against {methods[0]}, paired"]
    lines = []
    by_method: dict[str, list[float]] = {}
    for method in methods:
        by_seed = [
            [100 * float(row["test_last.accuracy"]) for row in found if (row["method"], row["seed"]) == (method, seed)]
            for seed in map(str, seeds)
        ]
        assert all(len(values) == folds for values in by_seed), "a fold is missing"
        means = by_method[method] = [mean(values) for values in by_seed]
        differences = [a - b for a, b in zip(means, by_method[methods[0]], strict=True)]
        paired = "-" if method == methods[0] else interval(differences, sign="+")
        lines.append([method, *(f"{value:.2f}" for value in means), interval(means), paired])
    return markdown_table(columns, lines) + "\n"


def interval(values: list[float], sign: str = "") -> str:
    """Return mean and 95 % interval, where there is one."""
    return with_interval(*mean_interval(values), sign=sign)


def main() -> None:
    """Train and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="N-MNIST as one .npz file")
    parser.add_argument("out", type=Path, help="folder for the runs and the table")
    parser.add_argument("--recipe", default="nmnist-small", help="nmnist-small-lif is the other")
    parser.add_argument(
        "--methods", nargs="+", default=["vanilla"], help="presets; the others are set against the first"
    )
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time")
    options = parser.parse_args()
    command = [sys.executable, "-m", "shortcut_snn", "compare", "--config", options.recipe, "--out", options.out]
    command += ["--methods", *options.methods, "--seeds", options.seeds, "--jobs", options.jobs]
    command += ["--grid", f"data.fold={','.join(map(str, range(options.folds)))}"]
    command += ["--data.kind", "events_npz", "--data.root", options.data, "--data.folds", options.folds]
    command += ["--data.train_limit", "null", "--data.test_limit", "null"]
    command += ["--training.epochs", options.epochs, "--training.threads", 1]
    subprocess.run([str(word) for word in command], check=True)
    found = rows(options.out / "runs.csv")
    write_csv(options.out / "folds.csv", found)
    write_text(options.out / "folds.md", table(found, options.folds))
    print(table(found, options.folds))


if __name__ == "__main__":
    main()
