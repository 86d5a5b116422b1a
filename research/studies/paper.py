"""Train the paper's table at its own size, for as many epochs as fit into some minutes.

    python -m research.studies.paper OUT --data FILE.npz --minutes 25

It times a step of each run first, then chooses one number of epochs for all of them: ResNet-18 and ResNet-34, 64 wide,
with the baseline, ``shortcut`` and ``evolutionary``, on one seed. The same command goes on where a run was stopped,
with the epochs of the first call, and writes OUT/paper.csv. ``--data`` may also be a folder of pieces, which ``--split
MEGABYTES`` writes from a file and which are joined here. ``research/studies/cifar10_npz.py`` writes FILE.npz.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from shortcut_snn.recipes import Recipe, build

from . import claim

METHODS = ("vanilla", "shortcut", "evolutionary")
NETWORKS = ("resnet18", "resnet34")
TIMED_STEPS, RATE = 4, 0.1


def split(file: Path, megabytes: float) -> Path:
    """Write a file in pieces and return their folder."""
    folder, size = file.with_suffix(".pieces"), int(megabytes * 2**20)
    folder.mkdir(exist_ok=True)
    data = file.read_bytes()
    for number, start in enumerate(range(0, len(data), size)):
        (folder / f"{file.stem}.{number:03d}").write_bytes(data[start : start + size])
    return folder


def joined(data: Path, out: Path) -> Path:
    """Return the file of the data, made of its pieces in a folder."""
    if data.is_file():
        return data
    file = out / "data.npz"
    if not file.is_file():
        out.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"".join(piece.read_bytes() for piece in sorted(data.iterdir())))
    return file


def seconds_per_step(recipe: Recipe) -> float:
    """Return the seconds of a forward and backward pass on one batch, with the branches of a recipe."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    task, data = build(recipe, log=lambda line: None)
    task.to(device).train()
    inputs, target = task.prepare_batch(next(iter(data.loaders(recipe.training.seed).train)))
    inputs, target, times = inputs.to(device), target.to(device), []
    for _ in range(TIMED_STEPS):
        start = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.training.precision == "bf16"):
            task.model.loss(task.model(inputs), target, 0, 1, criterion=task.criterion).backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    # The first call compiles kernels.
    return min(times[1:])


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line, plan, and train; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of the table and its runs")
    parser.add_argument("--data", type=Path, required=True, help="an .npz file of images, or a folder of its pieces")
    parser.add_argument("--minutes", type=float, default=25, help="of all runs together (default: %(default)s)")
    parser.add_argument("--split", type=float, metavar="MEGABYTES", help="write pieces of the file, and train nothing")
    parser.add_argument("--width", type=int, default=64, help="channels of the first stage (default: %(default)s)")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    options = parser.parse_args(arguments)
    if options.split:
        print(split(options.data, options.split))
        return 0
    start, data = time.monotonic(), joined(options.data, options.out)
    settings = [f"{network}-paper" for network in options.networks]
    common = [str(options.out), "--data", str(data), "--only", *settings]
    common += ["--rates", str(RATE), "--extend", "0", "--seeds", "1", "--set", f"network.width={options.width}"]
    common += ["data.batch_size=128", "training.keep_freed_memory=true"]
    plan = options.out / "plan.json"
    if not plan.is_file():
        options.out.mkdir(parents=True, exist_ok=True)
        plan.write_text(json.dumps(_plan(common, options.methods, 60 * options.minutes, start)))
    chosen = json.loads(plan.read_text())
    print(f"{chosen['epochs']} epochs of {chosen['images']:,} images: {chosen}", flush=True)
    common += [f"data.train_limit={chosen['images']}", "--epochs", str(chosen["epochs"])]
    # One after the other: together they would include the baseline for equal time.
    for method in options.methods:
        # What was interrupted goes on with the next call.
        if status := claim.main(["paper", *common, "--methods", method]):
            return status
    return 0


def _plan(common: list[str], methods: list[str], seconds: float, start: float) -> dict[str, object]:
    """Return how many epochs fit into the time; if not even one does, how many images of an epoch."""
    planned = []
    for method in methods:
        lab = claim.Lab("paper", claim.parse(["paper", *common, "--epochs", "1", "--methods", method]), pretend=True)
        claim.paper(lab)
        planned += lab.planned
    steps = {f"{run.setting} {run.method}": seconds_per_step(run.recipe) for run, _ in planned}
    left = seconds - (time.monotonic() - start)
    # Evaluation costs about a tenth of an epoch.
    affordable = left / (1.1 * sum(steps.values()))
    run, steps_an_epoch = planned[0]
    epochs = max(1, int(affordable / steps_an_epoch))
    few = max(1, int(affordable)) * run.recipe.data.batch_size
    images = lab.images if affordable >= steps_an_epoch else min(few, lab.images)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {"epochs": epochs, "images": images, "seconds_per_step": steps, "device": device}


if __name__ == "__main__":
    raise SystemExit(main())
