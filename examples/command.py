"""The command line that the examples share: seeds, epochs, data, and a CSV file to go on from."""

import argparse
import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from batches import Batches, Shape
from method import train
from shortcut_snn import LogitSum, LossSum
from shortcut_snn.diagnosis.statistics import mean_interval, with_interval
from shortcut_snn.files import write_csv

OBJECTIVES = {"without": LogitSum(), "logit_sum": LogitSum(), "loss_sum": LossSum()}


def run(
    about: str | None,
    make_network: Callable[[bool], nn.Module],
    taps: str | list[str],
    shape: Callable[[bool], Shape],
    lr: float = 1e-3,
    **options: Any,
) -> None:
    """Train with and without the method for each seed and print the accuracies.

    Args:
        about: the help text.
        make_network: builds the network, for N-MNIST if true, else for digits.
        taps: where its branches are.
        shape: of its input, likewise.
        lr: learning rate at the start, unless the command line has another.
        options: of ``attach``.
    """
    arguments = parse(about, lr)
    events = arguments.data is not None
    torch.set_num_threads(arguments.threads)
    settings = {name: str(getattr(arguments, name)) for name in ("data", "epochs", "batch_size", "lr", "limit")}
    rows = read(arguments.csv)
    for seed in range(arguments.seeds):
        for method in arguments.methods:
            where = [] if method == "without" else taps
            of_run = settings | {"seed": str(seed), "method": method}
            if any(of_run.items() <= row.items() for row in rows):
                continue
            batches = Batches(arguments.data, shape(events), seed, arguments.batch_size)
            schedule = {name: getattr(arguments, name) for name in ("epochs", "lr", "limit")}
            schedule["objective"] = OBJECTIVES[method]
            accuracies = train(lambda: make_network(events), where, batches, seed, **schedule, **options)
            rows.append(of_run | {name: f"{value:.2f}" for name, value in accuracies.items()})
            print(" ".join(f"{name}={rows[-1][name]}" for name in ("seed", "method", *accuracies)), flush=True)
            if arguments.csv is not None:
                write_csv(arguments.csv, rows)
    for method in arguments.methods:
        rows_of_it = [row for row in rows if (settings | {"method": method}).items() <= row.items()]
        accuracy = with_interval(*mean_interval([float(row["test_last"]) for row in rows_of_it]), digits=1)
        print(f"{method:10}test accuracy after the last epoch: {accuracy} % ({len(rows_of_it)} seeds)")


def parse(about: str | None, lr: float) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="N-MNIST as one .npz file (default: scikit-learn's digits, which need no file)")
    parser.add_argument(
        "--methods",
        nargs="+",
        choices=OBJECTIVES,
        default=["without", "logit_sum"],
        metavar="METHOD",
        help="without branches, with logit_sum (the paper's) or loss_sum (default: without logit_sum)",
    )
    parser.add_argument("--seeds", type=positive, default=1, help="how many, from 0 (default: 1)")
    parser.add_argument("--epochs", type=positive, default=3, help="default: 3")
    parser.add_argument("--batch-size", type=positive, default=64, help="default: 64")
    parser.add_argument("--lr", type=float, default=lr, help=f"learning rate at the start (default: {lr:g})")
    parser.add_argument("--limit", type=positive, help="batches of each part of the data, for a trial")
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads(), help="default: all cores")
    parser.add_argument("--csv", type=Path, help="file to write; runs that it has are not made again")
    return parser.parse_args()


def positive(text: str) -> int:
    """Read a number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"at least 1 is needed, got {value}")
    return value


def read(path: Path | None) -> list[dict[str, str]]:
    """Return the rows that an earlier call wrote."""
    if path is None or not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
