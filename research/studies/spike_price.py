"""Measure accuracy against time and energy of one recipe at several weights of the penalty on spikes.

    python research/studies/spike_price.py DATA.npz OUT [--recipe cifar10-cpu-lif] [--weights 0 1 4] [--seeds 1]

DATA.npz holds the images (data.kind npz; research/studies/cifar10_npz.py writes it). The same command resumes the runs
that were interrupted and skips those that have finished. The time of an image is the median over passes of the
deployed network on one batch of test images; the networks take turns. OUT/spikes.csv has a row for each run,
OUT/spikes.md the table.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import shortcut_snn
from shortcut_snn._utils.files import write_csv, write_text
from shortcut_snn._utils.markdown import markdown_table
from shortcut_snn._utils.statistics import mean_interval, with_interval
from shortcut_snn.energy.report import with_unit
from shortcut_snn.recipes import open_run

COLUMNS = ("weight", "runs", "test accuracy, %", "spikes per neuron and step", "energy", "with memory", "ms an image", "s a step")  # noqa: E501  # fmt: skip


def compare(options: argparse.Namespace) -> None:
    """Train all runs, as ``shortcut-snn compare`` does."""
    weights = ",".join(f"{weight:g}" for weight in options.weights)
    command: list[Any] = [sys.executable, "-m", "shortcut_snn", "compare", "--config", options.recipe]
    command += ["--out", options.out, "--methods", options.method, "--seeds", options.seeds, "--jobs", options.jobs]
    command += ["--grid", f"method.penalty.weight={weights}", "--method.penalty.kind", "firing_rate"]
    command += ["--data.kind", "npz", "--data.root", options.data]
    for entry in options.set:
        key, _, value = entry.partition("=")
        command += [f"--{key}", value]
    subprocess.run([str(word) for word in command], check=True)


def finished_runs(out: Path) -> list[dict[str, Any]]:
    """Return weight, seed, folder and result of each run, in the order of the weights."""
    description = json.loads((out / "comparison.json").read_text(encoding="utf-8"))
    rows = []
    for variant in description["variants"].values():
        for seed in variant["seeds"]:
            folder = out / variant["folder"] / f"seed{seed}"
            run = shortcut_snn.RunFolder(folder)
            weight = run.read_entries()["method"]["penalty"]["weight"]
            rows.append({"weight": weight, "seed": seed, "folder": folder, "result": run.read_result()})
    return sorted(rows, key=lambda row: (row["weight"], row["seed"]))


def milliseconds(folders: Sequence[Path], batch: int, rounds: int) -> list[float]:
    """Return the time of an image in each run's deployed network, in ms; the networks take turns."""
    networks = [shortcut_snn.load(folder) for folder in folders]
    # The time depends on the spikes, so the images are those on which firing rates and energy are measured.
    images, _ = open_run(folders[0])[1].sample(batch)
    seconds: list[list[float]] = [[] for _ in networks]
    for turn in range(rounds + 1):
        for network, times in zip(networks, seconds, strict=True):
            start = time.perf_counter()
            network.predict(images)
            # The first turn compiles the kernels.
            if turn:
                times.append(time.perf_counter() - start)
    return [1000 * median(times) / len(images) for times in seconds]


def row_of(run: dict[str, Any], milliseconds: float) -> dict[str, Any]:
    """Return the figures of a run."""
    result = run["result"]
    names = ("firing_rate", "energy_pj", "total_energy_pj", "seconds_per_step")
    figures = {name: result[name] for name in names}
    accuracy = result["test_last"]["accuracy"]
    return {"weight": run["weight"], "seed": run["seed"], "accuracy": accuracy, **figures, "ms": milliseconds}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return a Markdown table of the means over seeds; the accuracy has its 95 % interval."""
    cells = []
    for weight in dict.fromkeys(row["weight"] for row in rows):
        runs = [row for row in rows if row["weight"] == weight]

        def mean(name: str, runs: list[dict[str, Any]] = runs) -> float:
            return float(sum(float(row[name]) for row in runs) / len(runs))

        accuracy = with_interval(*mean_interval([100 * float(row["accuracy"]) for row in runs]))
        energies = [with_unit(mean(name)) for name in ("energy_pj", "total_energy_pj")]
        times = [f"{mean(name):.3g}" for name in ("ms", "seconds_per_step")]
        cells.append([f"{float(weight):g}", str(len(runs)), accuracy, f"{mean('firing_rate'):.3f}", *energies, *times])
    return markdown_table(COLUMNS, cells) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="images as one .npz file")
    parser.add_argument("out", type=Path, help="folder for the runs and the table")
    parser.add_argument("--recipe", default="cifar10-cpu-lif")
    parser.add_argument("--method", default="vanilla", help="a preset")
    parser.add_argument("--weights", type=float, nargs="+", default=[0.0, 1.0, 4.0], help="of the mean firing rate")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="other entries of the recipe")
    parser.add_argument("--batch", type=int, default=100, help="test images of the timed batch")
    parser.add_argument("--rounds", type=int, default=20, help="timed passes of each network")
    options = parser.parse_args(arguments)
    compare(options)
    runs = finished_runs(options.out)
    times = milliseconds([run["folder"] for run in runs], options.batch, options.rounds)
    rows = [row_of(run, ms) for run, ms in zip(runs, times, strict=True)]
    write_csv(options.out / "spikes.csv", rows)
    write_text(options.out / "spikes.md", table(rows))
    print(table(rows))


if __name__ == "__main__":
    main()
