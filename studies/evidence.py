"""Compare methods over depth, surrogate, branch weight, taps and objective: the tables of docs/appendix.md.

    python studies/evidence.py DATA OUT --set cifar10|nmnist [--tables NAME ...] [--seeds 5] [--jobs 2]

DATA is the archive that ``studies/cifar10_npz.py --size 8 --train 5000 --test 2500`` writes (cifar10), or an archive of
recordings for ``data.kind nmnist_npz`` (nmnist). Each table is one ``shortcut-snn compare`` in OUT/SET-TABLE, whose
comparison.md has the means and runs.csv the runs. The same command resumes a study that was stopped. ``--list`` prints
the tables and their methods.
"""

import argparse
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

OBJECTIVE, TAPS = "method.objective.kind", "method.branches.taps"
BRANCH_WEIGHT = "method.branches.branch_weight"
INITIAL = f"{BRANCH_WEIGHT}.initial"
SUM = f"evolutionary {OBJECTIVE}=loss_sum {TAPS}=blocks"
CORE = ("vanilla", "shortcut", "evolutionary", f"evolutionary {BRANCH_WEIGHT}.kind=step", SUM)
# Learning rate at the start, and weight decay. AdamW, which is the paper's, rescales each weight's step; SGD does not.
OPTIMIZERS = {"adamw": ("0.01", "0.02"), "sgd": ("0.1", "0.0005")}
# Each choice of the method.
CHOICES = (
    "vanilla",
    "evolutionary",
    *(f"evolutionary {INITIAL}={initial}" for initial in (0.05, 1.0)),
    *(f"evolutionary {BRANCH_WEIGHT}.kind={kind}" for kind in ("step", "cosine")),
    f"evolutionary {TAPS}=blocks",
    f"evolutionary {OBJECTIVE}=loss_sum",
    SUM,
    *(f"{SUM} {INITIAL}={initial}" for initial in (0.05, 1.0)),
    f"{SUM} method.objective.average=true {INITIAL}=1.0",
)


@dataclass(frozen=True)
class Table:
    """One comparison.

    Args:
        network: name of the network.
        surrogate: name of the surrogate, and its width.
        methods: presets with entries, as ``shortcut-snn compare --methods`` takes them; the first is the baseline.
        block: residual block.
        optimizer: a key of ``OPTIMIZERS``.
    """

    network: str
    surrogate: str
    methods: tuple[str, ...]
    block: str = "basic"
    optimizer: str = "adamw"

    @property
    def options(self) -> list[str]:
        """Options of ``shortcut-snn compare``."""
        surrogate, _, width = self.surrogate.partition(" ")
        rate, decay = OPTIMIZERS[self.optimizer]
        entries = {
            "network.kind": self.network, "network.block": self.block, "neuron.surrogate.kind": surrogate,
            "neuron.surrogate.width": width or "1", "optimizer.kind": self.optimizer, "optimizer.lr": rate,
            "optimizer.weight_decay": decay,
        }  # fmt: skip
        return [*(f"--{key}={value}" for key, value in entries.items()), "--methods", *self.methods]


def calibrated(*methods: str) -> tuple[str, ...]:
    """Return methods with surrogates calibrated to the network."""
    return tuple(f"{method} method.calibrate=true" for method in methods)


ALL = (*CORE, *calibrated("vanilla", "evolutionary", SUM))
TABLES = {
    "resnet34-rectangle4": Table("resnet34", "rectangle 4", ALL),
    "resnet110-rectangle4": Table("resnet110", "rectangle 4", ("vanilla", "evolutionary", *calibrated("vanilla", SUM))),
    "plain34-rectangle4": Table("resnet34", "rectangle 4", ALL, block="plain"),
    "plain34-calibrated": Table("resnet34", "rectangle 4", calibrated(*CHOICES), block="plain"),
    "resnet18-calibrated": Table("resnet18", "rectangle 4", calibrated(*CHOICES)),
    "resnet34-rectangle1": Table("resnet34", "rectangle 1", ALL),
    "resnet18-rectangle4": Table("resnet18", "rectangle 4", ALL),
}
COMMON = {"network.width": "16", "training.weight_decay_on": "all", "training.threads": "1"}
SETS = {
    "cifar10": COMMON
    | {"data.kind": "npz", "data.augment": "[flip]", "data.batch_size": "50", "network.time_steps": "2"}
    | {"training.epochs": "5"},
    # Half of the recordings is the test set: the archive's own has only 100.
    "nmnist": COMMON
    | {"data.kind": "nmnist_npz", "data.size": "17", "data.folds": "2", "data.batch_size": "32"}
    | {"network.time_steps": "3", "training.epochs": "15"},
}


def main() -> None:
    """Train the runs that are missing, and write the comparisons and their reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", help="the data")
    parser.add_argument("out", type=Path, nargs="?", help="folder for the comparisons")
    parser.add_argument("--set", choices=SETS, default="cifar10", help="data set (default: cifar10)")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES), metavar="TABLE")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds (default: 5)")
    parser.add_argument("--jobs", type=int, default=2, help="runs at the same time (default: 2)")
    parser.add_argument("--list", action="store_true", help="print the tables and their methods, and train nothing")
    options = parser.parse_args()
    if options.list:
        print(*(f"{name}: {', '.join(TABLES[name].methods)}" for name in options.tables), sep="\n")
        return
    if options.data is None or options.out is None:
        parser.error("DATA and OUT are needed")
    shortcut_snn = [sys.executable, "-m", "shortcut_snn"]
    for name in options.tables:
        folder = str(options.out / f"{options.set}-{name}")
        entries = SETS[options.set] | {"data.root": options.data}
        command = [*shortcut_snn, "compare", "--out", folder, *(f"--{key}={value}" for key, value in entries.items())]
        command += [*TABLES[name].options, "--seeds", str(options.seeds), "--jobs", str(options.jobs)]
        # A failed run is a line of the comparison, so the next tables are made all the same.
        subprocess.run(command, check=False)
        subprocess.run([*shortcut_snn, "report", folder], check=True)


if __name__ == "__main__":
    main()
