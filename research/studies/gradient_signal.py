"""Measure the share of signal in the first layer's gradient: the mean cosine between the gradients of two batches.

    python research/studies/gradient_signal.py DATA.npz OUT.csv [--batches 8] [--width 16] [--initialise]

An untrained network sees several batches of 100 images. For each path of the loss, the table has the mean cosine
between the gradients of the first convolution on two batches: 1 is signal only, 0 is noise. It also has their RMS, and
the ratio of the first layer's gradient to that of the last layer. A cosine within 0.1 of 0 is noise: it depends on the
number of threads, which changes the order of sums and so flips single spikes. AdamW hides the size of a gradient, not
its noise. With --initialise the network first gets the start at which input and gradient are kept.
"""

import argparse
import itertools
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from shortcut_snn import LogitSum, LossSum, initialise, nets, wrap
from shortcut_snn._utils.files import write_csv
from shortcut_snn._utils.statistics import geometric_mean
from shortcut_snn.data import ImageArchive
from shortcut_snn.measurement import measure_gradients
from shortcut_snn.measurement.gradients import first_to_last_ratio
from shortcut_snn.method import Branches, Method
from shortcut_snn.neurons import LIF, Rectangle, Triangle

SURROGATES = {"rectangle 1": Rectangle(1.0), "triangle": Triangle(), "rectangle 4": Rectangle(4.0)}
# path of the loss: (taps, objective, lambda)
PATHS: dict[str, tuple[str, Any, float]] = {
    "main output alone": ("stages", LogitSum(), 0.0),
    "logit sum, stages": ("stages", LogitSum(), 0.25),
    "logit sum, blocks": ("blocks", LogitSum(), 0.25),
    "loss sum, stages": ("stages", LossSum(), 0.25),
    "loss sum, blocks": ("blocks", LossSum(), 0.25),
}


def mean_cosine(gradients: list[torch.Tensor]) -> float:
    """Return the mean cosine between gradients of different batches."""
    pairs = [functional.cosine_similarity(a, b, dim=0) for a, b in itertools.combinations(gradients, 2)]
    return torch.stack(pairs).mean().item()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--batches", type=int, default=8)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--initialise", action="store_true")
    options = parser.parse_args()
    data = ImageArchive(options.data, augment=(), batch_size=100).load()
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (data.mean, data.std))
    stream = itertools.islice(data.loaders(seed=0).train, options.batches)
    batches = [((images / 255 - mean) / std, labels) for images, labels in stream]
    rows = []
    for depth, (name, surrogate), (path, (taps, objective, branch_weight)) in itertools.product(
        ("resnet18", "resnet34"), SURROGATES.items(), PATHS.items()
    ):
        torch.manual_seed(0)
        net = getattr(nets, f"spiking_{depth}")(
            10, 2, width=options.width, make_neuron=lambda surrogate=surrogate: LIF(surrogate=surrogate)
        )
        if options.initialise:
            initialise(net, *batches[0])
        method = Method(Branches(), objective)
        model = wrap(net.to(memory_format=torch.channels_last), net.layout(taps), method, log=len)
        reports = [measure_gradients(model, images, labels, branch_weight) for images, labels in batches]
        row = {
            "network": depth,
            "surrogate": name,
            "path": path,
            "cosine": round(mean_cosine([report.first for report in reports]), 4),
            "rms": f"{geometric_mean([report.first.square().mean().sqrt().item() for report in reports]):.3g}",
            "first_to_last": f"{geometric_mean([first_to_last_ratio(report.rms) for report in reports]):.3g}",
        }
        rows.append(row)
        print(" | ".join(f"{value}" for value in row.values()), flush=True)
        write_csv(options.out, rows)


if __name__ == "__main__":
    main()
