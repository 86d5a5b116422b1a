"""The process of one contender: answers requests, one JSON object a line, until its input ends.

``check``: compares all contenders of a cell and writes the weights they share to a file. ``build``: builds a
contender and warms it up on two samples. ``memory``: peak bytes over idle of full steps. ``turn``: seconds of full
steps or inference batches. Whatever a library prints goes to the error stream.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from shortcut_snn._utils.memory import PeakMemory, release_memory

from .. import tasks
from ..cell import Cell
from .agreement import check


@dataclass
class Contender:
    """A task and the device it runs on."""

    task: tasks.Task
    device: str
    memory: PeakMemory
    heaviest: str
    """The quantity whose peak memory is measured: ``"step"`` or ``"inference"``."""

    def run(self, what: str) -> Callable[[], None]:
        """Return the function of ``"step"`` or ``"inference"``."""
        return self.task.step if what == "step" else self.task.infer

    def seconds(self, run: Callable[[], None]) -> float:
        """Return the seconds of a run; the device's queue is empty before and after."""
        self._drain()
        start = time.perf_counter()
        run()
        self._drain()
        return time.perf_counter() - start

    def release(self) -> None:
        """Release memory while the other contenders take their turns."""
        self.task.release()
        release_memory(self.device)

    def _drain(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()


def _check(request: dict[str, Any]) -> list[dict[str, Any]]:
    cell = Cell(**request["cell"])
    agreement = [verdict.to_dict() for verdict in check(cell, request["device"], request["contenders"])]
    torch.save(tasks.shared_state(cell), request["state"])
    return agreement


def _build(request: dict[str, Any]) -> Contender:
    state = torch.load(request["state"], weights_only=True)
    device = request["device"]
    cell = Cell(**request["cell"])
    task = tasks.build(cell, request["contender"], device, state)
    del state
    task.warm()
    task.release()
    return Contender(task, device, PeakMemory(device), cell.timed[0])


def _memory(contender: Contender, times: int) -> list[int] | None:
    if not contender.memory.available:
        return None
    peaks = []
    for _ in range(times):
        contender.memory.start()
        contender.run(contender.heaviest)()
        peaks.append(contender.memory.stop())
        contender.release()
    return peaks


def _turn(contender: Contender, what: str, untimed: int, timed: int) -> list[float]:
    run = contender.run(what)
    for _ in range(untimed):
        run()
    times = [contender.seconds(run) for _ in range(timed)]
    contender.release()
    return times


def serve(requests: Any, answers: Any) -> None:
    """Answer requests until the input ends."""
    contender: Contender | None = None
    for line in requests:
        request = json.loads(line)
        torch.set_num_threads(request.get("threads") or torch.get_num_threads())
        reply: Any = None
        match request["do"]:
            case "check":
                reply = _check(request)
            case "build":
                contender = _build(request)
            case "memory":
                assert contender is not None
                reply = _memory(contender, request["times"])
            case "turn":
                assert contender is not None
                reply = _turn(contender, request["what"], request["untimed"], request["timed"])
        answers.write(json.dumps({"reply": reply}) + "\n")
        answers.flush()


def main() -> None:
    """Serve standard input and output."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    serve(sys.stdin, answers)


if __name__ == "__main__":
    main()
