"""A long run: the memory and the open files of every process of a training, epoch by epoch."""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Train for so many minutes and print memory and files over time; the exit status is 1 where they grow."""
    parser = argparse.ArgumentParser(prog="python -m faults long", description=__doc__)
    parser.add_argument("--minutes", type=float, default=180)
    parser.add_argument("--out", type=Path, default=None, help="CSV file: minutes, epoch, processes, MiB, open files")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="faults-long-") as folder:
        rows = watch(Path(folder), options.minutes)
    if options.out is not None:
        options.out.write_text(
            "minutes,epoch,processes,mib,files\n" + "".join(f"{m:.2f},{e},{p},{r:.1f},{f}\n" for m, e, p, r, f in rows)
        )
    return report(rows)


def watch(folder: Path, minutes: float) -> list[tuple[float, int, int, float, int]]:
    """Train with two loader processes, and report on it every so often; return a row an epoch."""
    run = folder / "run"
    command = [sys.executable, "-P", "-m", "shortcut_snn"]
    train = [
        *command, "train", "--preset", "evolutionary", "--out", str(run), "--data.kind=digits", "--data.workers=2",
        "--data.train_limit=60", "--data.test_limit=20", "--data.batch_size=10", "--network.kind=vgg11",
        "--network.width=2", "--network.time_steps=1", "--training.epochs=1000000", "--training.threads=1",
        "--training.checkpoint_every=3",
    ]  # fmt: skip
    rows: list[tuple[float, int, int, float, int]] = []
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(train, stdout=log, stderr=log, start_new_session=True)
        start, seen = time.monotonic(), 0
        try:
            while time.monotonic() - start < 60 * minutes and process.poll() is None:
                time.sleep(0.2)
                epoch = (folder / "log").read_bytes().count(b"epoch ")
                if epoch > seen:
                    seen = epoch
                    family = _family(process.pid)
                    rows.append(
                        (
                            (time.monotonic() - start) / 60,
                            epoch,
                            len(family),
                            sum(map(_memory, family)),
                            sum(map(_files, family)),
                        )
                    )
                    if epoch % 50 == 0:
                        subprocess.run([*command, "report", str(run)], check=True, stdout=log)
        finally:
            process.terminate()
            process.wait()
        if process.returncode != 143:
            raise RuntimeError((folder / "log").read_text(errors="replace")[-2000:])
    return rows


def report(rows: Sequence[tuple[float, int, int, float, int]]) -> int:
    """Print the first and the second half after a beginning in which things are made once."""
    kept = rows[len(rows) // 5 :]
    halves = kept[: len(kept) // 2], kept[len(kept) // 2 :]
    print(f"{rows[-1][0]:.1f} minutes, {rows[-1][1]} epochs, {rows[-1][2]} processes")
    memory = [statistics.median(row[3] for row in half) for half in halves]
    files = [statistics.median(row[4] for row in half) for half in halves]
    hours = (statistics.mean(r[0] for r in halves[1]) - statistics.mean(r[0] for r in halves[0])) / 60
    growth = (memory[1] - memory[0]) / hours
    print(f"memory of all processes, MiB: {memory[0]:.1f}, then {memory[1]:.1f} ({growth:+.1f} an hour)")
    print(f"open files: {files[0]:.0f}, then {files[1]:.0f}; most {max(row[4] for row in rows)}")
    return int(memory[1] > 1.05 * memory[0] or files[1] > files[0])


def _family(number: int) -> list[int]:
    """The process and its children, and theirs."""
    found = [number]
    for each in found:
        for path in Path(f"/proc/{each}/task").glob("*/children"):
            try:
                found += [int(child) for child in path.read_text().split()]
            except OSError:
                continue
    return found


def _memory(number: int) -> float:
    """Memory that is a process's alone or its share of what it has in common (PSS), in MiB."""
    try:
        lines = Path(f"/proc/{number}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:"))


def _files(number: int) -> int:
    try:
        return len(os.listdir(f"/proc/{number}/fd"))
    except OSError:
        return 0
