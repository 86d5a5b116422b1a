"""The command line of the examples: seeds, epochs, data, and a CSV file from which a run resumes."""

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
from shortcut_snn._utils.files import write_csv
from shortcut_snn._utils.statistics import mean_interval, with_interval

OBJECTIVES = {"without": LogitSum(), "logit_sum": LogitSum(), "loss_sum": LossSum(), "initialised": LossSum()}


def run(
    description: str | None,
    make_network: Callable[[bool], nn.Module],
    taps: str | list[str],
    shape: Callable[[bool], Shape],
    lr: float = 1e-3,
    **options: Any,
) -> None:
    """Train with and without the method for each seed and print the accuracies.

    Args:
        description: the help text.
        make_network: returns the network, for N-MNIST if its argument is true, else for digits.
        taps: names of the submodules that get branches.
        shape: returns the shape of the input, for N-MNIST or digits.
        lr: default of the learning rate at the start.
        options: options of ``attach``.
    """
    arguments = parse(description, lr)
    events = arguments.data is not None
    torch.set_num_threads(arguments.threads)
    settings = {name: str(getattr(arguments, name)) for name in ("data", "epochs", "batch_size", "lr", "limit")}
    rows = read(arguments.csv)
    for seed in range(arguments.seeds):
        for method in arguments.methods:
            own_taps: dict[str, str | list[str]] = {"without": [], "initialised": "auto"}
            entries = settings | {"seed": str(seed), "method": method}
            if any(entries.items() <= row.items() for row in rows):
                continue
            batches = Batches(arguments.data, shape(events), seed, arguments.batch_size)
            schedule = {name: getattr(arguments, name) for name in ("epochs", "lr", "limit")}
            schedule["objective"] = OBJECTIVES[method]
            schedule["method"] = method if method == "initialised" else None
            run_taps = own_taps.get(method, taps)
            accuracies = train(lambda: make_network(events), run_taps, batches, seed, **schedule, **options)
            rows.append(entries | {name: f"{value:.2f}" for name, value in accuracies.items()})
            print(" ".join(f"{name}={rows[-1][name]}" for name in ("seed", "method", *accuracies)), flush=True)
            if arguments.csv is not None:
                write_csv(arguments.csv, rows)
    for method in arguments.methods:
        finished = [row for row in rows if (settings | {"method": method}).items() <= row.items()]
        accuracy = with_interval(*mean_interval([float(row["test_last"]) for row in finished]), digits=1)
        print(f"{method:12}test accuracy after the last epoch: {accuracy} % ({len(finished)} seeds)")


def parse(description: str | None, lr: float) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="N-MNIST as one .npz file (default: scikit-learn's digits, which need no file)")
    parser.add_argument(
        "--methods",
        nargs="+",
        choices=OBJECTIVES,
        default=["without", "logit_sum"],
        metavar="METHOD",
        help="without branches, with logit_sum (the paper's) or loss_sum, or initialised (default: without logit_sum)",
    )
    parser.add_argument("--seeds", type=positive, default=1, help="number of seeds (default: 1)")
    parser.add_argument("--epochs", type=positive, default=3, help="default: 3")
    parser.add_argument("--batch-size", type=positive, default=64, help="default: 64")
    parser.add_argument("--lr", type=float, default=lr, help=f"learning rate at the start (default: {lr:g})")
    parser.add_argument("--limit", type=positive, help="batches of each part of the data, for a trial")
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads(), help="default: all cores")
    parser.add_argument("--csv", type=Path, help="file to write; its runs are not repeated")
    return parser.parse_args()


def positive(text: str) -> int:
    """Parse an integer of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def read(path: Path | None) -> list[dict[str, str]]:
    """Return the rows that an earlier call wrote."""
    if path is None or not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
