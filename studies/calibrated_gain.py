"""Measure the ratio of gradient norms, first spiking layer to last, before and after calibration, by depth.

    python studies/calibrated_gain.py OUT.csv [--data DATA.npz] [--width 16] [--batch 64]

Untrained networks, T = 2, on two batches of real images (scikit-learn's digits, or an npz file): the batch of the
calibration, and another. It takes two minutes on one core with digits, about twenty with CIFAR-10.
"""

import argparse
import itertools
import time
from pathlib import Path

import torch

from shortcut_snn import nets
from shortcut_snn.data import Digits, ImageArchive
from shortcut_snn.diagnosis import calibrate, examine
from shortcut_snn.files import write_csv
from shortcut_snn.neurons import LIF, ATan, Rectangle, Triangle

SURROGATES = {"rectangle 1": Rectangle(1.0), "rectangle 4": Rectangle(4.0), "triangle": Triangle(), "atan": ATan()}
NETWORKS = [
    (name, block) for name in ("resnet18", "resnet34", "resnet110") for block in ("basic", "plain", "sew", "ms")
]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--batch", type=int, default=64)
    options = parser.parse_args()
    shared = {"augment": (), "batch_size": options.batch}
    data = (ImageArchive(options.data, **shared) if options.data else Digits(**shared)).load()
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (data.mean, data.std))
    stream = itertools.islice(data.loaders(seed=0).train, 2)
    batches = [((images / 255 - mean) / std, labels) for images, labels in stream]
    rows = []
    for (name, block), (surrogate, shape) in itertools.product(NETWORKS, SURROGATES.items()):
        torch.manual_seed(0)
        net = getattr(nets, f"spiking_{name}")(
            len(data.classes), 2, width=options.width, in_channels=data.train.shape[0], block=block,
            make_neuron=lambda shape=shape: LIF(surrogate=shape),
        )  # fmt: skip
        before = examine(net, batches[:1]).factors[0]
        start = time.perf_counter()
        widths = calibrate(net, batches[:1])
        seconds = time.perf_counter() - start
        after = examine(net, batches).factors
        figures = {"before": before, "after": after[0], "after, other batch": after[1]}
        figures |= {"least width": min(widths.values()), "largest width": max(widths.values()), "seconds": seconds}
        row = {"network": name, "block": block, "surrogate": surrogate}
        rows.append(row | {key: f"{value:.3g}" for key, value in figures.items()})
        print(" | ".join(rows[-1].values()), flush=True)
        write_csv(options.out, rows)


if __name__ == "__main__":
    main()
