"""The command: ``python -m benchmarks [--quick] [--only PART ...] [--out FOLDER]``."""

import argparse
import time
from dataclasses import replace
from pathlib import Path

from . import identity
from .cell import PARTS, Cell
from .measure.process import ALLOCATORS
from .plan import NETWORKS, PRECISIONS, TIME_STEPS, full, quick
from .report.write import write
from .results import Store
from .run import measure


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Time spiking networks side by side with SpikingJelly, snnTorch and Norse. A run that was "
        "stopped goes on where it was when it is called again.",
    )
    made.add_argument("--out", type=Path, default=Path("runs/bench"), help="folder of results (default: %(default)s)")
    made.add_argument("--quick", action="store_true", help="one small cell of each part, to see that all works")
    made.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=", ".join(PARTS))
    workloads = [f"{network}-{width}" for network, width, _ in NETWORKS]
    made.add_argument("--networks", nargs="+", choices=workloads, metavar="NETWORK", help=", ".join(workloads))
    made.add_argument("--time-steps", nargs="+", type=int, choices=TIME_STEPS, metavar="T", help="2, 4, 8")
    made.add_argument("--precisions", nargs="+", choices=PRECISIONS, metavar="PRECISION", help=", ".join(PRECISIONS))
    made.add_argument("--allocators", nargs="+", choices=ALLOCATORS, metavar="ALLOCATOR", help=", ".join(ALLOCATORS))
    made.add_argument("--rounds", type=int, metavar="N", help="turns of a contender (default: 5)")
    made.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda where there is one")
    made.add_argument("--threads", type=int, default=identity.cpus(), help="default: %(default)s")
    made.add_argument("--report", action="store_true", help="write the report of what is measured, measure nothing")
    return made


def main(arguments: list[str] | None = None) -> None:
    """Measure what is not there yet and write the report."""
    asked = parser().parse_args(arguments)

    def keep(cell: Cell) -> bool:
        deep = cell.part != "neuron"
        return (
            cell.part in asked.only
            and (not asked.networks or not deep or cell.workload in asked.networks)
            and (not asked.time_steps or not deep or cell.time_steps in asked.time_steps)
            and (not asked.precisions or not deep or cell.precision in asked.precisions)
        )

    plan = (quick() if asked.quick else full()).only(keep)
    if asked.allocators:
        plan = replace(plan, allocators=tuple(asked.allocators))
    if asked.rounds:
        plan = replace(plan, effort=replace(plan.effort, rounds=asked.rounds))
    device = asked.device or _device()
    asked.out.mkdir(parents=True, exist_ok=True)
    with open(asked.out / "progress.log", "a") as progress:

        def log(line: str) -> None:
            print(line, flush=True)
            progress.write(f"{time.strftime('%H:%M:%S')} {line}\n")
            progress.flush()

        store = Store(asked.out / "cells", plan, device, asked.threads)
        if not asked.report:
            measure(plan, store, device, asked.threads, log)
        for path in write(store, asked.out):
            log(f"wrote {path}")


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
