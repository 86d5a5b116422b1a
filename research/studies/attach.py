"""Train networks of other libraries with and without the method on N-MNIST, and write a table.

    python research/studies/attach.py NMNIST.npz OUT [--seeds 3] [--epochs 15]

Each seed holds out another fifth of the recordings for testing, the same with and without the method. It takes about
90 minutes on one core. The same command resumes: runs in the CSV files in OUT are not repeated. The table is
OUT/table.md.
"""

import argparse
import csv
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from shortcut_snn._utils.files import write_text
from shortcut_snn._utils.statistics import mean_interval, with_interval

EXAMPLES = Path(__file__).parents[2] / "examples"
NETWORKS = {
    "spikingjelly_resnet18": "SpikingJelly, spiking_resnet18, T = 4",
    "snntorch_convnet": "snnTorch, tutorial 6, T = 8",
    "norse_convnet": "Norse, ConvNet4, T = 16",
}
METHODS = ("without", "logit_sum", "loss_sum")
COLUMNS = {"test_last": "last epoch", "test_best": "best on validation"}


def table(folder: Path, networks: Sequence[str]) -> str:
    """Return a Markdown table: means ± 95 % intervals over seeds, and of the differences to "without"."""
    lines = [
        "| network | accuracy after | without | logit sum | loss sum | logit sum, paired | loss sum, paired | seeds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in networks:
        with (folder / f"{name}.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        for column, said in COLUMNS.items():
            by = [{row["seed"]: float(row[column]) for row in rows if row["method"] == method} for method in METHODS]
            seeds = sorted(by[0].keys() & by[1].keys() & by[2].keys())
            values = [[each[seed] for seed in seeds] for each in by]
            values += [[b - a for a, b in zip(values[0], those, strict=True)] for those in values[1:]]
            lines.append(f"| {NETWORKS[name]} | {said} | {' | '.join(map(cell, values))} | {len(seeds)} |")
    return "\n".join(lines) + "\n"


def cell(values: list[float]) -> str:
    """Return the mean and, for more than one value, its interval."""
    return with_interval(*mean_interval(values), digits=1)


def main() -> None:
    """Run the examples and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="N-MNIST as one .npz file")
    parser.add_argument("out", type=Path, help="folder for the CSV files and the table")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--limit", type=int, help="batches of each part of the data, for a trial")
    options = parser.parse_args()
    for name in options.networks:
        print(NETWORKS[name], flush=True)
        command = [
            sys.executable,
            EXAMPLES / f"{name}.py",
            "--data",
            options.data,
            "--csv",
            options.out / f"{name}.csv",
            "--methods",
            *METHODS,
        ]
        command += ["--seeds", options.seeds, "--epochs", options.epochs]
        command += ["--batch-size", options.batch_size, "--threads", options.threads]
        command += [] if options.limit is None else ["--limit", options.limit]
        subprocess.run([str(word) for word in command], check=True)
    write_text(options.out / "table.md", table(options.out, options.networks))
    print(table(options.out, options.networks))


if __name__ == "__main__":
    main()
