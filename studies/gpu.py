"""What needs a GPU, in pieces of minutes: the kernels' tests, the benchmark, and the paper's rows at full size.

    python studies/gpu.py OUT --data FILE.npz [--minutes 9] [--parts tests benchmark rows] [--seeds 3]
                          [--networks resnet18 resnet34] [--methods vanilla shortcut evolutionary] [--set KEY=VALUE ...]

FILE.npz is what ``studies/cifar10_npz.py`` makes of CIFAR-100. Give the same command again and again, wherever there is
a GPU for some minutes: a piece ends in time, its run saved in mid-epoch, and the next goes on with it, bit for bit. It
prints what is left; the exit status is 0 when nothing is, 75 when there is more to do, and else that of what failed.
OUT/rows.csv has a line for each run that has ended. Without a GPU it does the same on the CPU, where a row of the
paper takes weeks.

Rows are the paper's recipes (T = 2, 300 epochs, batches of 128, AdamW 0.01), all of the first seed first. Images are
augmented by loader processes, as the recipes have it: a batch with AutoAugment takes 8.5 ms of a core, so that four of
them keep up with steps of 3 ms.
"""

import argparse
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from shortcut_snn.files import write_csv
from shortcut_snn.training import RunFolder

ROOT = Path(__file__).parents[1]
MORE = 75
PARTS = ("tests", "benchmark", "rows")
GRACE = 60.0
"""So many seconds a run that is asked to stop may take to save."""


class TimeIsUp(Exception):
    """The piece is over."""


def piece(command: Sequence[str], log: Path, deadline: float) -> int:
    """Run a command until it ends, and return its exit status.

    Raises:
        TimeIsUp: it was asked to stop, and has.
    """
    if time.monotonic() >= deadline:
        raise TimeIsUp
    with log.open("a", encoding="utf-8") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, cwd=ROOT)
        try:
            return process.wait(max(deadline - time.monotonic(), 0.0))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            raise TimeIsUp from None


def once(name: str, command: Sequence[str], out: Path, deadline: float) -> int:
    """Run a command until it has ended well once."""
    done = out / f"{name}.done"
    if done.is_file():
        return 0
    status = piece(command, out / f"{name}.log", deadline)
    if status == 0:
        done.touch()
    return status


def rows(options: argparse.Namespace) -> Iterator[tuple[str, str, int, RunFolder]]:
    """Yield network, method, seed and folder of each run, in order."""
    for seed in range(options.seeds):
        for network in options.networks:
            for method in options.methods:
                yield network, method, seed, RunFolder(options.out / "runs" / network / method / f"seed{seed}")


def train(network: str, method: str, seed: int, folder: RunFolder, options: argparse.Namespace, deadline: float) -> int:
    """Train a row, or go on with it."""
    entries = {"data.kind": "npz", "data.root": str(options.data.absolute()), "training.seed": str(seed)}
    entries |= dict(entry.split("=", 1) for entry in options.set)
    command = [sys.executable, "-m", "shortcut_snn", "train", "--config", f"cifar100-{network}-t2", "--preset", method]
    command += ["--out", str(folder.path.absolute()), "--resume"]
    command += [word for key, value in entries.items() for word in (f"--{key}", value)]
    return piece(command, options.out / "rows.log", deadline)


def note(options: argparse.Namespace) -> int:
    """Write a line for each run that has ended; return how many have not."""
    found, left = [], 0
    for network, method, seed, folder in rows(options):
        if not folder.is_finished:
            left += 1
            continue
        result = folder.read_result()
        about = {"network": network, "method": method, "seed": seed, "epochs": result["epochs"]}
        tests = {f"test_{which}": result[f"test_{which}"]["accuracy"] for which in ("last", "best")}
        costs = {key: result[key] for key in ("seconds_per_epoch", "seconds_per_step", "firing_rate", "energy_pj")}
        found.append(about | tests | costs)
    if found:
        write_csv(options.out / "rows.csv", found)
    return left


def work(options: argparse.Namespace) -> int:
    """Do what fits into the time; return the exit status."""
    deadline = time.monotonic() + 60 * options.minutes
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        if "tests" in options.parts:
            command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "tests/neurons/kernels/test_triton.py"]
            if status := once("tests", command, options.out, deadline):
                return status
        if "benchmark" in options.parts:
            command = [sys.executable, "-m", "benchmarks", "--device", device, "--out", str(options.out / "benchmark")]
            if status := once("benchmark", command, options.out, deadline):
                return status
        for network, method, seed, folder in rows(options) if "rows" in options.parts else ():
            if not folder.is_finished and (status := train(network, method, seed, folder, options, deadline)):
                print(f"{network}, {method}, seed {seed} failed; see {options.out / 'rows.log'}", file=sys.stderr)
                return status
    except TimeIsUp:
        return MORE
    finally:
        left = note(options)
        print(f"{left} rows left; {options.out / 'rows.csv'} has those that have ended")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line and do a piece of the work."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of results and runs")
    parser.add_argument("--data", type=Path, required=True, metavar="FILE.npz")
    parser.add_argument("--minutes", type=float, default=9.0, help="after which the piece ends (default: 9)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--networks", nargs="+", default=["resnet18", "resnet34"], metavar="NETWORK")
    parser.add_argument("--methods", nargs="+", default=["vanilla", "shortcut", "evolutionary"], metavar="PRESET")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="entries to lay over every recipe")
    options = parser.parse_args(arguments)
    if not options.data.is_file():
        parser.error(f"--data: there is no file {options.data}")
    options.out.mkdir(parents=True, exist_ok=True)
    return work(options)


if __name__ == "__main__":
    sys.exit(main())
