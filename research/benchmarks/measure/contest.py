"""Measure one cell: all contenders that agree take turns."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from ..cell import Cell
from .process import Worker, WorkerFailed

Log = Callable[[str], None]


@dataclass(frozen=True)
class Effort:
    """Number of measurements.

    Args:
        rounds: rounds, in each of which a contender has a turn of steps and one of inference batches.
        untimed: runs at the start of a turn, which refill the caches.
        timed: timed runs of a turn.
        memory: steps whose peak memory is measured.
    """

    rounds: int = 5
    untimed: int = 1
    timed: int = 2
    memory: int = 3


def contest(
    cell: Cell, names: list[str], state: str, device: str, threads: int, effort: Effort, log: Log
) -> dict[str, Any]:
    """Measure the contenders in turns.

    Returns:
        For each contender ``{"step": [s, ...], "inference": [s, ...], "memory": [bytes, ...]}`` as far as timed, or
        ``{"error": why}``.
    """
    figures: dict[str, Any] = {}
    with ExitStack() as stack:
        workers: dict[str, Worker] = {}
        for name in names:
            worker = stack.enter_context(Worker(threads))
            try:
                worker.ask("build", cell=cell.to_dict(), contender=name, device=device, state=state)
                memory = worker.ask("memory", times=effort.memory)
            except WorkerFailed as failure:
                figures[name] = {"error": str(failure)}
                log(f"  {name}: {failure}")
                continue
            workers[name] = worker
            figures[name] = {"memory": memory or [], **{what: [] for what in cell.timed}}
        for what in cell.timed:
            for turn in range(effort.rounds):
                # Each round starts with another contender, and every second round is reversed.
                order = list(workers)
                order = order[turn % len(order) :] + order[: turn % len(order)] if order else order
                for name in order[:: 1 if turn % 2 == 0 else -1]:
                    try:
                        seconds = workers[name].ask("turn", what=what, untimed=effort.untimed, timed=effort.timed)
                    except WorkerFailed as failure:
                        figures[name] = {"error": str(failure)}
                        log(f"  {name}: {failure}")
                        del workers[name]
                        continue
                    figures[name][what] += seconds
    return figures
