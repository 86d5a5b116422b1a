"""The command: ``python -m research.benchmarks [--quick] [--only PART ...] [--out FOLDER]``."""

import argparse
import time
from dataclasses import replace
from pathlib import Path

from . import identity
from .cell import PARTS, Cell
from .plan import NETWORKS, PRECISIONS, TIME_STEPS, full, quick
from .report.write import write
from .results import Store
from .run import measure


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    made = argparse.ArgumentParser(
        prog="python -m research.benchmarks",
        description="Compare the time of spiking networks with SpikingJelly, snnTorch and Norse. The same command "
        "resumes a run that was stopped.",
    )
    made.add_argument("--out", type=Path, default=Path("runs/bench"), help="folder of results (default: %(default)s)")
    made.add_argument("--quick", action="store_true", help="one small cell of each part, as a trial")
    made.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=", ".join(PARTS))
    workloads = [f"{network}-{width}" for network, width, _ in NETWORKS]
    made.add_argument("--networks", nargs="+", choices=workloads, metavar="NETWORK", help=", ".join(workloads))
    made.add_argument("--time-steps", nargs="+", type=int, choices=TIME_STEPS, metavar="T", help="2, 4, 8")
    made.add_argument("--precisions", nargs="+", choices=PRECISIONS, metavar="PRECISION", help=", ".join(PRECISIONS))
    made.add_argument(
        "--rates",
        nargs="+",
        type=float,
        metavar="RATE",
        help="firing rates of the networks (default: initial)",
    )
    made.add_argument("--rounds", type=int, metavar="N", help="turns per contender (default: 5)")
    made.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda where there is one")
    made.add_argument("--threads", type=int, default=identity.cpus(), help="default: %(default)s")
    made.add_argument("--report", action="store_true", help="write the report of the existing results, measure nothing")
    return made


def main(arguments: list[str] | None = None) -> None:
    """Measure the cells that have no result, and write the report."""
    options = parser().parse_args(arguments)

    def keep(cell: Cell) -> bool:
        deep = cell.part != "neuron"
        return (
            cell.part in options.only
            and (not options.networks or not deep or cell.workload in options.networks)
            and (not options.time_steps or not deep or cell.time_steps in options.time_steps)
            and (not options.precisions or not deep or cell.precision in options.precisions)
        )

    plan = (quick() if options.quick else full()).only(keep)
    if options.rates:
        plan = plan.at_rates(options.rates)
    if options.rounds:
        plan = replace(plan, effort=replace(plan.effort, rounds=options.rounds))
    device = options.device or _device()
    options.out.mkdir(parents=True, exist_ok=True)
    with open(options.out / "progress.log", "a") as progress:

        def log(line: str) -> None:
            print(line, flush=True)
            progress.write(f"{time.strftime('%H:%M:%S')} {line}\n")
            progress.flush()

        store = Store(options.out / "cells", plan, device, options.threads)
        if not options.report:
            measure(plan, store, device, options.threads, log)
        for path in write(store, options.out):
            log(f"wrote {path}")


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
