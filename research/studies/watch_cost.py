"""Measure the cost of the callback that watches layers, amortised over the steps between two measurements.

    python research/studies/watch_cost.py [--network resnet18] [--width 16] [--every 50] [--rounds 40]

Plain and watched steps alternate on one network. The result is the difference of their medians, relative to a plain
step and divided by ``every``. It takes about a minute on an idle core.
"""

import argparse
import time
from statistics import median

import torch
from torch.nn import functional as F

from shortcut_snn import nets
from shortcut_snn.diagnosis import judge
from shortcut_snn.measurement import probe
from shortcut_snn.measurement.layers import layer_reports


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet18")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--steps", type=int, default=4, help="time steps T")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--every", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    net = getattr(nets, f"spiking_{options.network}")(10, options.steps, width=options.width).to(
        memory_format=torch.channels_last
    )
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    images = torch.randn(options.batch, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(10, (options.batch,))

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(net(images), labels).backward()
        optimizer.step()

    def watched() -> None:
        with probe(net, membrane=False) as tallies:
            step()
        judge(layer_reports(net, tallies))

    seconds: dict[str, list[float]] = {"plain": [], "watched": []}
    for turn in range(options.rounds + 2):
        for name, act in (("plain", step), ("watched", watched)):
            start = time.perf_counter()
            act()
            if turn >= 2:
                seconds[name].append(time.perf_counter() - start)
    plain, looked = median(seconds["plain"]), median(seconds["watched"])
    print(f"plain step {1e3 * plain:.1f} ms, watched step {1e3 * looked:.1f} ms")
    print(f"every {options.every} steps: {100 * (looked - plain) / plain / options.every:.2f} % of a step")


if __name__ == "__main__":
    main()
