"""Train for hours, and watch the memory and the open files of every process of the training."""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

COMMAND = [sys.executable, "-P", "-m", "shortcut_snn"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Train and print memory and open files over time; the exit status is 1 if either grows."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults long", description=__doc__)
    parser.add_argument("--minutes", type=float, default=180, help="duration of the training")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="faults-long-") as folder:
        samples = watch(Path(folder), options.minutes)
    # The first fifth is left out: caches and workers are made there.
    samples = samples[len(samples) // 5 :]
    halves = samples[: len(samples) // 2], samples[len(samples) // 2 :]
    memory, files = ([statistics.median(sample[i] for sample in half) for half in halves] for i in (0, 1))
    print(f"memory of all processes, MiB: {memory[0]:.1f}, then {memory[1]:.1f}")
    print(f"open files: {files[0]:.0f}, then {files[1]:.0f}; at most {max(sample[1] for sample in samples)}")
    return int(memory[1] > 1.05 * memory[0] or files[1] > files[0])


def watch(folder: Path, minutes: float) -> list[tuple[float, int]]:
    """Train with two loader processes, with a report every 50 epochs; return memory and open files after each epoch."""
    entries = {
        "data.kind": "digits", "data.workers": 2, "data.train_limit": 60, "data.test_limit": 20, "data.batch_size": 10,
        "network.kind": "vgg11", "network.width": 2, "network.time_steps": 1, "training.epochs": 1_000_000,
        "training.threads": 1, "training.checkpoint_every": 3,
    }  # fmt: skip
    run, log_path = folder / "run", folder / "log"
    options = [f"--{key}={value}" for key, value in entries.items()]
    samples: list[tuple[float, int]] = []
    with log_path.open("wb") as log:
        train = [*COMMAND, "train", "--preset", "evolutionary", "--out", str(run), *options]
        process = subprocess.Popen(train, stdout=log, stderr=log)
        end, epoch = time.monotonic() + 60 * minutes, 0
        try:
            while time.monotonic() < end and process.poll() is None:
                time.sleep(0.2)
                if (done := log_path.read_bytes().count(b"epoch ")) == epoch:
                    continue
                epoch = done
                processes = descendants(process.pid)
                samples.append((sum(map(memory_mib, processes)), sum(map(open_files, processes))))
                if epoch % 50 == 0:
                    subprocess.run([*COMMAND, "report", str(run)], check=True, stdout=log)
        finally:
            process.terminate()
            process.wait()
    print(f"{minutes:.0f} minutes, {epoch} epochs")
    return samples


def descendants(pid: int) -> list[int]:
    """Return a process, its children, and theirs."""
    pids = [pid]
    for parent in pids:
        for path in Path(f"/proc/{parent}/task").glob("*/children"):
            with suppress(OSError):
                pids += [int(child) for child in path.read_text().split()]
    return pids


def memory_mib(pid: int) -> float:
    """Return the proportional set size of a process in MiB, which counts shared memory once."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return 0.0


def open_files(pid: int) -> int:
    """Return the number of open files of a process."""
    with suppress(OSError):
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return 0
