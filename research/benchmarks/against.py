"""Compare a training step of this checkout with another's.

    python -m research.benchmarks.against OTHER [--networks ...]

OTHER is a clone of the repository at another commit. The networks of both, with the same weights and batch, take turns
in separate processes. So the ratio of their times is meaningful on a machine that other processes use too.
"""

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import torch

from . import identity, tasks
from .cell import Cell
from .measure.process import ROOT, Worker
from .plan import NETWORKS, PRECISIONS


def seconds(cell: Cell, roots: list[Path], threads: int, rounds: int) -> list[list[float]]:
    """Return the seconds of each step by checkout; a turn is one untimed step and three timed steps."""
    times: list[list[float]] = [[] for _ in roots]
    with ExitStack() as stack:
        state = stack.enter_context(tempfile.NamedTemporaryFile(suffix=".pt"))
        torch.save(tasks.shared_state(cell), state.name)
        workers = [stack.enter_context(Worker(threads, root=root)) for root in roots]
        for worker in workers:
            worker.ask("build", cell=cell.to_dict(), contender="shortcut-snn", device="cpu", state=state.name)
        for turn in range(rounds):
            order = range(len(roots)) if turn % 2 == 0 else reversed(range(len(roots)))
            for side in order:
                times[side] += workers[side].ask("turn", what="step", untimed=1, timed=3)
    return times


def main() -> None:
    """Measure and print."""
    workloads = {f"{network}-{width}": (network, width, batch) for network, width, batch in NETWORKS}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="the other clone")
    parser.add_argument("--networks", nargs="+", choices=workloads, default=list(workloads), metavar="NETWORK")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    parser.add_argument("--time-steps", type=int, default=4)
    parser.add_argument("--size", type=int, default=32, help="pixels of an image's side (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--threads", type=int, default=identity.cpus())
    options = parser.parse_args()
    if not any((options.other / folder).is_dir() for folder in ("research/benchmarks", "benchmarks")):
        parser.error(f"{options.other} is not a clone of this repository")
    for name in options.networks:
        cell = Cell("networks", *workloads[name], options.time_steps, options.precision, options.size)
        here, there = seconds(cell, [ROOT, options.other.resolve()], options.threads, options.rounds)
        figures = f"here {median(here):.4g} s, there {median(there):.4g} s"
        ratios = f"here / there {median(here) / median(there):.3g}, of the minima {min(here) / min(there):.3g}"
        print(f"{name}, batch {cell.batch}, {cell.size} pixels, T = {cell.time_steps}, {cell.precision}: {figures}")
        print(f"  {ratios}", flush=True)


if __name__ == "__main__":
    main()
