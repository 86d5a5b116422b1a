"""Kill a run again and again, in the middle of whatever it does, and compare what it ends as with a run left alone.

    python -m studies.kill_runs --out runs/killed

A run on recordings (so that there is a frame cache) is killed with SIGKILL at the points of ``POINTS`` and after random
times, resumed after each, and must end with the same weights, metrics files and best score, bit for bit. The points
are reached by functions put around Python's, torch's and TensorBoard's own in the killed process: the library has no
part in it.
"""

import argparse
import io
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

POINTS = (
    "cache:3", "before rename:30", "after rename:20", "step:2", "save:1", "before rename:4", "step:3", "save:2",
    "after rename:5", "text:1", "text:4", "log:2", "before rename:7", "after rename:8", "step:1", "text:5", "save:3",
    "after rename:1",
)  # fmt: skip
"""What is being done, and at which time of doing it: 18, beside two random moments."""

OPTIONS = {
    "data.kind": "nmnist_npz",
    "data.batch_size": 10,
    "data.size": 12,
    "network.kind": "resnet8",
    "network.width": 2,
    "network.time_steps": 2,
    "neuron.surrogate.kind": "triangle",
    "training.epochs": 4,
    "training.threads": 1,
    "training.checkpoint_every": 2,
    "loggers": "tensorboard",
}
TIMES = {"seconds_per_epoch": 0, "seconds_per_step": 0, "peak_bytes_per_step": 0}
FILES, NETWORKS = (
    ("metrics.csv", "gradients.csv", "layers.csv", "split.txt"),
    ("network.safetensors", "best.safetensors"),
)


def write_recordings(path: Path, count: int = 80) -> None:
    """Write an archive of random events, more of them on the left for one class and on the right for the other."""
    generator = np.random.default_rng(0)
    events = 200
    labels = np.arange(count) % 2
    x = generator.integers(0, 22, (count, events)) + 12 * labels[:, None]
    np.savez(
        path,
        x=x.reshape(-1).astype(np.uint8),
        y=generator.integers(0, 34, count * events).astype(np.uint8),
        p=generator.integers(0, 2, count * events).astype(np.uint8),
        t=np.sort(generator.integers(0, 300_000, (count, events)), axis=1).reshape(-1).astype(np.uint32),
        offsets=np.arange(count + 1) * events,
        labels=labels,
        is_test=np.arange(count) >= 60,
    )


def arguments(folder: Path, data: Path, cache: Path) -> list[str]:
    """Return the command of a run, started or resumed."""
    given = OPTIONS | {"data.root": data, "data.cache": cache}
    entries = [f"--{key}={value}" for key, value in given.items()]
    return ["train", "--resume", "--out", str(folder), *entries]


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _around(owner: Any, name: str, at: int, act: Callable[..., Any]) -> None:
    """Call ``act`` with the original function and its arguments at the ``at``-th call, counted from 1."""
    original, calls = getattr(owner, name), [0]

    def called(*given: Any, **named: Any) -> Any:
        calls[0] += 1
        return act(original, *given, **named) if calls[0] == at else original(*given, **named)

    setattr(owner, name, called)


def _arrange(point: str) -> None:
    """Let this process kill itself at a point."""
    import torch
    from tensorboard.summary.writer.record_writer import RecordWriter

    what, _, count = point.partition(":")

    def first(original: Any, *given: Any, **named: Any) -> None:
        _die()

    def after(original: Any, *given: Any, **named: Any) -> None:
        original(*given, **named)
        _die()

    def half(original: Any, path: Path, content: Any, **named: Any) -> None:
        original(path, content[: len(content) // 2], **named)
        _die()

    def half_saved(original: Any, content: Any, file: Any) -> None:
        buffer = io.BytesIO()
        original(content, buffer)
        file.write(buffer.getvalue()[: buffer.tell() // 2])
        file.flush()
        _die()

    def half_logged(original: Any, writer: Any, content: bytes) -> None:
        writer.__dict__["_writer"].write(content[: len(content) // 2])
        writer.flush()
        _die()

    owner, name, act = {
        "step": (torch.optim.AdamW, "step", after),
        "save": (torch, "save", half_saved),
        "before rename": (Path, "replace", first),
        "after rename": (Path, "replace", after),
        "text": (Path, "write_text", half),
        "cache": (Path, "write_bytes", half),
        "log": (RecordWriter, "write", half_logged),
    }[what]
    _around(owner, name, int(count), act)


def child(command: Sequence[str], point: str | None) -> None:
    """Run the command in this process, quietly, and leave with its exit status."""
    if point:
        _arrange(point)
    from shortcut_snn.cli import main

    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (this process's, to its end)
    sys.exit(main(command))


class Harness:
    """Starts processes that have the library imported, so that each costs little."""

    def __init__(self) -> None:
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["shortcut_snn.cli.train", "tensorboard.summary.writer.record_writer"])

    def run(self, command: Sequence[str], point: str | None = None, seconds: float | None = None) -> int:
        """Run a command, up to a point or a time if given; return its exit status, -9 if it was killed."""
        process = self.context.Process(target=child, args=(command, point))
        process.start()
        process.join(seconds)
        if process.is_alive():
            process.kill()
            process.join()
        assert process.exitcode is not None
        return process.exitcode


def differences(one: Path, other: Path) -> list[str]:
    """Return the names of what differs between two runs, but for times."""
    from shortcut_snn.deploy import read_network

    different = [name for name in FILES if (one / name).read_bytes() != (other / name).read_bytes()]
    for name in NETWORKS:
        mine, theirs = (read_network(run / name)[0] for run in (one, other))
        if mine.keys() != theirs.keys() or not all(mine[key].equal(theirs[key]) for key in mine):
            different.append(name)
    results = [json.loads((run / "result.json").read_text()) | TIMES for run in (one, other)]
    strays = [path.name for path in one.iterdir() if path.name.startswith(".")]
    return different + ["result.json"] * (results[0] != results[1]) + strays


def kill_again_and_again(
    folder: Path, points: Sequence[str], times: int = 0, tell: Callable[[str], None] = print
) -> tuple[int, list[str]]:
    """Kill at points and at random times; return how often, and what differs in the end from a run left alone."""
    folder.mkdir(parents=True)
    write_recordings(folder / "recordings.npz")
    harness = Harness()
    whole, killed = (
        arguments(folder / name, folder / "recordings.npz", folder / f"{name}-cache") for name in ("whole", "killed")
    )
    start = time.perf_counter()
    if harness.run(whole) != 0:
        raise RuntimeError("the run that was left alone failed")
    lasts = time.perf_counter() - start
    chance, kills, left = random.Random(0), 0, list(points)
    while kills < len(points) + times:
        point = left.pop(0) if left else None
        seconds = None if point else chance.uniform(0.1, 0.6) * lasts
        status = harness.run(killed, point, seconds)
        kills += status == -signal.SIGKILL
        tell(
            f"{point or f'after {seconds:.1f} s'}: {'killed' if status == -signal.SIGKILL else f'exit status {status}'}"
        )
        if (folder / "killed" / "result.json").is_file():
            # It was over before: from the start again, with an empty cache.
            tell("the run had come to its end; another one begins")
            if found := differences(folder / "killed", folder / "whole"):
                return kills, found
            shutil.rmtree(folder / "killed")
            shutil.rmtree(folder / "killed-cache")
    if harness.run(killed) != 0:
        raise RuntimeError("the run that was killed failed when it was left alone")
    return kills, differences(folder / "killed", folder / "whole")


def main() -> None:
    """Kill 20 times and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True, help="folder; created")
    folder = parser.parse_args().out
    kills, found = kill_again_and_again(folder, POINTS, times=2)
    print(f"killed {kills} times; differs from the run that was left alone: {', '.join(found) or 'nothing'}")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
