"""Kill a run repeatedly with SIGKILL, resume it each time, and compare its end with that of an uninterrupted run.

    python -m research.studies.kill_runs --out runs/killed

The run trains on event recordings, so that it has a frame cache. It is killed at each of ``POINTS``, and after random
times. Weights, metrics files and best score must be equal bit for bit in the end. Patches of Python's, torch's and
TensorBoard's functions in the killed process reach the points; the package has no part in it.
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
"""An action, and the number of the call in which the process is killed."""
ENTRIES = {
    "data.kind": "events_npz", "data.batch_size": 10, "data.size": 12, "network.kind": "resnet8", "network.width": 2,
    "network.time_steps": 2, "neuron.surrogate.kind": "triangle", "training.epochs": 4, "training.threads": 1,
    "training.checkpoint_every": 2, "loggers": "tensorboard",
}  # fmt: skip
TIMES = {"seconds_per_epoch": 0, "seconds_per_step": 0, "peak_bytes_per_step": 0}
FILES = ("metrics.csv", "gradients.csv", "layers.csv", "split.txt")
NETWORKS = ("network.safetensors", "best.safetensors")


def write_recordings(path: Path, count: int = 80) -> None:
    """Write an archive of random events, mostly on the left for one class and on the right for the other."""
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


def _kill_at(point: str) -> None:
    """Patch a function of this process so that its n-th call kills the process, before, after or half way."""
    import torch
    from tensorboard.summary.writer.record_writer import RecordWriter

    def kill_before(original: Any, *args: Any, **kwargs: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def kill_after(original: Any, *args: Any, **kwargs: Any) -> None:
        original(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)

    def kill_in_write(original: Any, path: Path, content: Any, **kwargs: Any) -> None:
        kill_after(original, path, content[: len(content) // 2], **kwargs)

    def kill_in_save(original: Any, content: Any, file: Any) -> None:
        buffer = io.BytesIO()
        original(content, buffer)
        file.write(buffer.getvalue()[: buffer.tell() // 2])
        kill_after(file.flush)

    def kill_in_log(original: Any, writer: Any, content: bytes) -> None:
        writer.__dict__["_writer"].write(content[: len(content) // 2])
        kill_after(writer.flush)

    owner: Any
    patch: Any
    action, _, number = point.partition(":")
    owner, name, patch = {
        "step": (torch.optim.AdamW, "step", kill_after),
        "save": (torch, "save", kill_in_save),
        "before rename": (Path, "replace", kill_before),
        "after rename": (Path, "replace", kill_after),
        "text": (Path, "write_text", kill_in_write),
        "cache": (Path, "write_bytes", kill_in_write),
        "log": (RecordWriter, "write", kill_in_log),
    }[action]
    original, calls = getattr(owner, name), 0

    def patched(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        return patch(original, *args, **kwargs) if calls == int(number) else original(*args, **kwargs)

    setattr(owner, name, patched)


def _train(folder: Path, data: Path, point: str | None) -> None:
    """Start or resume the run in this process, silently, and exit with its status."""
    if point:
        _kill_at(point)
    from shortcut_snn.cli import main

    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (open until the process ends)
    entries = ENTRIES | {"data.root": data, "data.cache": folder.with_name(f"{folder.name}-cache")}
    sys.exit(main(["train", "--resume", "--out", str(folder), *(f"--{key}={value}" for key, value in entries.items())]))


def run(folder: Path, data: Path, point: str | None = None, seconds: float | None = None) -> int:
    """Run in a process until its end, a point or a time; return the exit status, -9 if the process was killed."""
    # The fork server has the package imported, so that each process starts quickly.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["shortcut_snn.cli.train", "tensorboard.summary.writer.record_writer"])
    process = context.Process(target=_train, args=(folder, data, point))
    process.start()
    process.join(seconds)
    if process.is_alive():
        process.kill()
        process.join()
    assert process.exitcode is not None
    return process.exitcode


def differences(one: Path, other: Path) -> list[str]:
    """Return the names of the files that differ between two finished runs, apart from times."""
    from shortcut_snn.deploy.safetensors_files import read_network

    different = [name for name in FILES if (one / name).read_bytes() != (other / name).read_bytes()]
    for name in NETWORKS:
        a, b = (read_network(folder / name)[0] for folder in (one, other))
        if a.keys() != b.keys() or not all(a[key].equal(b[key]) for key in a):
            different.append(name)
    a, b = (json.loads((folder / "result.json").read_text()) | TIMES for folder in (one, other))
    temporary = [path.name for path in one.iterdir() if path.name.startswith(".")]
    return different + ["result.json"] * (a != b) + temporary


def kill_repeatedly(
    folder: Path, points: Sequence[str], random_times: int = 0, log: Callable[[str], None] = print
) -> tuple[int, list[str]]:
    """Kill a run at points and at random times.

    Returns:
        How often it was killed, and the files that differ in the end from those of an uninterrupted run.
    """
    folder.mkdir(parents=True)
    data, whole, killed = folder / "recordings.npz", folder / "whole", folder / "killed"
    write_recordings(data)
    start = time.perf_counter()
    if run(whole, data) != 0:
        raise RuntimeError("the uninterrupted run failed")
    duration = time.perf_counter() - start
    generator, kills, remaining = random.Random(0), 0, list(points)
    while kills < len(points) + random_times:
        point = remaining.pop(0) if remaining else None
        seconds = None if point else generator.uniform(0.1, 0.6) * duration
        status = run(killed, data, point, seconds)
        kills += status == -signal.SIGKILL
        log(f"{point or f'after {seconds:.1f} s'}: exit status {status}")
        if (killed / "result.json").is_file():
            # It ended before it was killed: start another one, without a cache.
            if different := differences(killed, whole):
                return kills, different
            shutil.rmtree(killed)
            shutil.rmtree(folder / "killed-cache")
    if run(killed, data) != 0:
        raise RuntimeError("the killed run failed when it was resumed")
    return kills, differences(killed, whole)


def main() -> None:
    """Kill 20 times, and print what differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True, help="folder; created")
    kills, different = kill_repeatedly(parser.parse_args().out, POINTS, random_times=2)
    print(f"killed {kills} times; differences from the uninterrupted run: {', '.join(different) or 'none'}")
    sys.exit(bool(different))


if __name__ == "__main__":
    main()
