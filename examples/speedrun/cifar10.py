"""Race on CIFAR-10: train a recipe with several seeds, and write accuracy, minutes and operations of each run.

    python examples/speedrun/cifar10.py DATA [--recipe NAME] [--neurons spikingjelly] [--seeds 5] [ENTRY=VALUE ...]

DATA is the folder that holds ``cifar-10-batches-py`` (or will, with ``data.download=true``), or an ``.npz`` archive
with ``x_train``, ``y_train``, ``x_test`` and ``y_test``. The recipe is ``cifar10-small`` or ``cifar10-cpu``, whose
I-LIF neurons output 0 to 4 (as many spikes at inference), or ``cifar10-cpu-lif`` with LIF neurons, which output 0 or 1.
Entries of the recipe may follow, as in ``training.epochs=3``; ``shortcut-snn train --help-recipe training`` lists those
of a section. Every seed is a run in the folder ``--out`` and a line of its records.csv. The same command resumes.
Accuracy is that of all test images after the last epoch, and nothing is chosen by it. Minutes are those of training:
leave the machine idle.
"""

import argparse
import resource
import sys
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from shortcut_snn._utils.files import write_csv
from shortcut_snn.components import component_of
from shortcut_snn.data import Data
from shortcut_snn.neurons import keep_freed_memory, use_backend
from shortcut_snn.recipes import import_components, open_run, parse_options, recipe_of, train
from shortcut_snn.training import Interrupted, RunFolder, Task, read_rows

RECIPES = ("cifar10-small", "cifar10-cpu", "cifar10-cpu-lif")
# Linux counts KiB, macOS bytes.
RSS_UNITS = 2**30 if sys.platform == "darwin" else 2**20
COLUMNS = ("accuracy", "accuracy_two_views", "minutes", "pflop", "peak_gib")


def count_operations(network: nn.Module, images: Tensor) -> float:
    """Return the operations of a training step for each image; a multiplication and an addition are 2.

    These are convolutions and matrix products, computed densely.
    """
    with use_backend("eager"), FlopCounterMode(display=False) as counter:
        network(images).sum().backward()
    return counter.get_total_flops() / len(images)


@torch.no_grad()
def accuracy_of_two_views(task: Task, data: Data) -> float:
    """Return the test accuracy; logits are the mean over an image and its mirror image."""
    correct = total = 0
    for batch in data.loaders(0).test:
        images, labels = task.prepare_batch(batch)
        logits = task.model.network(images) + task.model.network(images.flip(-1))
        correct, total = correct + int((logits.argmax(1) == labels).sum()), total + len(labels)
    return correct / total


def measure(run: RunFolder) -> dict[str, Any]:
    """Return the row of a finished run."""
    data: Any
    task, data, recipe = open_run(run.path)
    network, resizing = task.model.network, recipe.training.progressive_resizing
    images, _ = task.prepare_batch(data.sample(8))
    operations = count_operations(network, images)
    if resizing is not None:
        with resizing.fewer_time_steps(network, images):
            small = count_operations(network, resizing.resize(images))
        operations += resizing.fraction * (small - operations)
    return {
        "seed": recipe.training.seed,
        "epochs": recipe.training.epochs,
        "accuracy": run.read_result()["test_last"]["accuracy"],
        "accuracy_two_views": accuracy_of_two_views(task, data),
        "minutes": round(sum(row["seconds"] for row in read_rows(run.table("timing"))) / 60, 2),
        "pflop": round(recipe.training.epochs * len(data.train) * operations / 1e15, 6),
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / RSS_UNITS, 2),
    }


def main() -> None:
    """Train the seeds that the table lacks, and print means and standard deviations."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of CIFAR-10, or .npz archive of images")
    parser.add_argument("--recipe", choices=RECIPES, default="cifar10-small")
    parser.add_argument("--neurons", choices=("shortcut_snn", "spikingjelly"), default="shortcut_snn")
    parser.add_argument("--seeds", type=int, default=1, help="number of runs")
    parser.add_argument("--out", type=Path, default=Path("runs/speedrun"), help="folder of the runs and their table")
    parser.add_argument("entries", nargs="*", metavar="ENTRY=VALUE", help="entries of the recipe")
    options = parser.parse_intermixed_args()
    kind = "npz" if options.data.suffix == ".npz" else "cifar10"
    data = {"data": {"kind": kind, "root": str(options.data)}}
    keep_freed_memory()
    table = options.out / "records.csv"
    rows = read_rows(table)
    try:
        entries = parse_options(options.entries)
        recipe = recipe_of(options.recipe, data, entries)
        if options.neurons == "spikingjelly":
            import_components([str(Path(__file__).parents[1] / "spikingjelly_neurons.py")])
            neuron = {"kind": f"spikingjelly_{component_of(recipe.neuron).name}"}
            recipe = recipe_of(options.recipe, data, entries, {"neuron": neuron})
        for seed in range(options.seeds):
            seeded = replace(recipe, training=replace(recipe.training, seed=seed))
            run = RunFolder(options.out / f"seed{seed}")
            # This raises an error if the folder holds a run of another recipe.
            train(seeded, run.path, resume=True)
            if seed == len(rows):
                rows.append(measure(run))
                write_csv(table, rows)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    except Interrupted as interruption:
        parser.exit(interruption.status, f"{interruption}; the same command resumes\n")
    for column in COLUMNS:
        values = [float(row[column]) for row in rows]
        spread = f" +- {stdev(values):.4f}" if len(values) > 1 else ""
        print(f"{column}: {fmean(values):.4f}{spread} (n = {len(values)})")


if __name__ == "__main__":
    main()
