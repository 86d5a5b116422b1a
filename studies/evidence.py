"""Where the paper's order holds and where not: depth, surrogate, balance, placement, objective and schedule.

    python studies/evidence.py DATA OUT --set cifar10|nmnist [--tables NAME ...] [--seeds 5] [--jobs 2]

DATA is for cifar10 the archive that ``studies/cifar10_npz.py --size 8 --train 5000 --test 2500`` makes, for nmnist the
archive of recordings that data.kind nmnist_npz reads. ``--list`` prints the tables with their runs. Stop it and start
it again as you like: finished runs are skipped, and others go on. OUT/SET-TABLE.csv has the runs of a table,
OUT/SET-TABLE.md its means, OUT/SET-TABLE/report.html its page.
"""

import argparse
import csv
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from shortcut_snn.diagnosis.statistics import geometric_mean, mean_interval, with_interval
from shortcut_snn.files import write_csv, write_text
from shortcut_snn.training import markdown_table

OBJECTIVE, TAPS, SCHEDULE = "method.objective.kind", "method.branches.taps", "method.branches.schedule"
INITIAL = f"{SCHEDULE}.initial"
SUM = f"evolutionary {OBJECTIVE}=loss_sum {TAPS}=blocks"
CALIBRATED = "method.calibrate=true"
PAPER = ("vanilla", "shortcut", "evolutionary")
CORE = (*PAPER, f"evolutionary {SCHEDULE}.kind=step", SUM)
# Learning rate at the start, weight decay. AdamW, which is the paper's, rescales every weight's step; SGD does not.
OPTIMIZERS = {"adamw": ("0.01", "0.02"), "sgd": ("0.1", "0.0005")}
# Every choice of the method, where calibrated surrogates let it work.
CHOICES = (
    "vanilla",
    "evolutionary",
    *(f"evolutionary {INITIAL}={initial}" for initial in (0.05, 1.0)),
    f"evolutionary {SCHEDULE}.kind=step",
    f"evolutionary {SCHEDULE}.kind=cosine",
    f"evolutionary {TAPS}=blocks",
    f"evolutionary {OBJECTIVE}=loss_sum",
    SUM,
    f"{SUM} {INITIAL}=0.05",
    f"{SUM} {INITIAL}=1.0",
    f"{SUM} method.objective.average=true {INITIAL}=1.0",
)


@dataclass(frozen=True)
class Table:
    """One comparison: a network, a surrogate and the methods on it.

    Args:
        network: its name.
        surrogate: its name, and after a blank its width.
        methods: as ``shortcut-snn compare --methods`` takes them; the first is what others are compared with.
        block: residual block.
        optimizer: a key of OPTIMIZERS.
    """

    network: str
    surrogate: str
    methods: tuple[str, ...]
    block: str = "basic"
    optimizer: str = "adamw"

    @property
    def options(self) -> list[str]:
        """What ``compare`` is told."""
        name, _, width = self.surrogate.partition(" ")
        said = ["--network.kind", self.network, "--network.block", self.block]
        said += ["--neuron.surrogate.kind", name, "--neuron.surrogate.width", width or "1"]
        rate, decay = OPTIMIZERS[self.optimizer]
        said += ["--optimizer.kind", self.optimizer, "--optimizer.lr", rate, "--optimizer.weight_decay", decay]
        return [*said, "--methods", *self.methods]


def calibrated(methods: Iterable[str]) -> tuple[str, ...]:
    """Return methods with surrogates calibrated to the network."""
    return tuple(f"{method} {CALIBRATED}" for method in methods)


ALL = (*CORE, *calibrated(("vanilla", "evolutionary", SUM)))
TABLES = {
    "resnet34-rectangle4": Table("resnet34", "rectangle 4", ALL),
    "resnet110-rectangle4": Table(
        "resnet110", "rectangle 4", ("vanilla", "evolutionary", *calibrated(("vanilla", SUM)))
    ),
    "plain34-rectangle4": Table("resnet34", "rectangle 4", ALL, block="plain"),
    "plain34-calibrated": Table("resnet34", "rectangle 4", calibrated(CHOICES), block="plain"),
    "resnet18-calibrated": Table("resnet18", "rectangle 4", calibrated(CHOICES)),
    "resnet18-rectangle4-sgd": Table("resnet18", "rectangle 4", CORE, optimizer="sgd"),
    "resnet34-rectangle4-sgd": Table("resnet34", "rectangle 4", CORE, optimizer="sgd"),
    "resnet34-rectangle1": Table("resnet34", "rectangle 1", ALL),
    "resnet18-rectangle1": Table("resnet18", "rectangle 1", ALL),
    "resnet18-rectangle4": Table("resnet18", "rectangle 4", ALL),
    "resnet34-triangle": Table("resnet34", "triangle", CORE),
    "resnet34-rectangle2": Table("resnet34", "rectangle 2", CORE),
}
COMMON = {"network.width": "16", "training.decay": "all", "training.threads": "1"}
SETS = {
    "cifar10": COMMON
    | {"data.kind": "npz", "data.augment": "[flip]", "data.batch_size": "50", "network.time_steps": "2"}
    | {"training.epochs": "5"},
    # Half of the recordings is the test set: 100, which the archive has, are few.
    "nmnist": COMMON
    | {"data.kind": "nmnist_npz", "data.size": "17", "data.folds": "2", "data.batch_size": "32"}
    | {"network.time_steps": "3", "training.epochs": "15"},
}


def epoch_of(folder: Path, accuracy: float) -> int | None:
    """Return the first epoch, from 1, after which a run's validation accuracy is at least that."""
    with (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
        reached = (
            epoch for epoch, row in enumerate(csv.DictReader(file), 1) if float(row["validation_accuracy"]) >= accuracy
        )
        return next(reached, None)


def read(folder: Path) -> list[dict[str, Any]]:
    """Return the runs of a comparison, each with the epoch at which it reached vanilla's last accuracy of its seed."""
    with (folder / "runs.csv").open(newline="", encoding="utf-8") as file:
        runs: list[dict[str, Any]] = list(csv.DictReader(file))
    # The table's first method: vanilla, in some tables with calibrated surrogates.
    first = runs[0]["variant"]
    goals = {run["seed"]: float(run["validation_last.accuracy"]) for run in runs if run["variant"] == first}
    for run in runs:
        run["epoch_of_vanillas_last"] = epoch_of(folder / run["folder"], goals[run["seed"]])
    return runs


def means(runs: Sequence[dict[str, Any]]) -> str:
    """Return the Markdown table of means, 95 % intervals and paired differences from the first method."""
    by_variant: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        by_variant.setdefault(run["variant"], []).append(run)
    first = runs[0]["variant"]
    baseline = {run["seed"]: float(run["test_last.accuracy"]) for run in by_variant[first]}
    rows = []
    for variant, found in by_variant.items():
        last = [100 * float(run["test_last.accuracy"]) for run in found]
        best = [100 * float(run["test_best.accuracy"]) for run in found]
        pairs = [value - 100 * baseline[run["seed"]] for value, run in zip(last, found, strict=True)]
        epochs = [run["epoch_of_vanillas_last"] for run in found if run["epoch_of_vanillas_last"] is not None]
        ratios = [
            geometric_mean([float(run[f"gradient_ratio_{when}_epoch"]) for run in found]) for when in ("first", "last")
        ]
        rows.append(
            [
                variant,
                str(len(found)),
                with_interval(*mean_interval(last)),
                with_interval(*mean_interval(best)),
                "-" if variant == first else with_interval(*mean_interval(pairs), sign="+"),
                f"{median(epochs):g}, {len(epochs)} of {len(found)}" if epochs else "never",
                f"{ratios[0]:.3g} → {ratios[1]:.3g}",
            ]
        )
    columns = ["method", "n", "last epoch, %", "best epoch in validation, %", f"last epoch against {first}, paired"]
    columns += ["epoch that reaches vanilla's last validation accuracy", "gradient, first layer / last: epoch 1 → end"]
    return markdown_table(columns, rows) + "\n"


def main() -> None:
    """Train what is missing and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", help="the data")
    parser.add_argument("out", type=Path, nargs="?", help="folder for runs and tables")
    parser.add_argument("--set", choices=SETS, default="cifar10")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES), metavar="TABLE")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, help="default: 5 for cifar10, 15 for nmnist")
    parser.add_argument("--jobs", type=int, default=2, help="runs at the same time")
    parser.add_argument("entries", nargs="*", metavar="KEY=VALUE", help="of the recipe, for a trial")
    parser.add_argument("--list", action="store_true", help="print the tables and train nothing")
    options = parser.parse_intermixed_args()
    if options.list:
        for name, wanted in TABLES.items():
            print(f"{name}: {', '.join(wanted.methods)}")
        return
    if options.data is None or options.out is None:
        parser.error("DATA and OUT are needed")
    for name in options.tables:
        place = options.out / f"{options.set}-{name}"
        command: list[object] = [sys.executable, "-m", "shortcut_snn", "compare", "--out", place]
        command += [word for key, value in SETS[options.set].items() for word in (f"--{key}", value)]
        command += ["--data.root", options.data, *TABLES[name].options]
        command += ["--seeds", options.seeds, "--jobs", options.jobs]
        command += ["--training.epochs", options.epochs] if options.epochs else []
        command += [f"--{entry}" for entry in options.entries]
        # A run that fails is a line of the comparison; the rest of the study goes on.
        subprocess.run([str(word) for word in command], check=False)
        runs = read(place)
        write_csv(place.with_name(place.name + ".csv"), runs)
        write_text(place.with_name(place.name + ".md"), means(runs))
        print(f"{place.name}\n\n{means(runs)}", flush=True)
        subprocess.run([sys.executable, "-m", "shortcut_snn", "report", str(place)], check=True)


if __name__ == "__main__":
    main()
