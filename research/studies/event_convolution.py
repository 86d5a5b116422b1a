"""Time convolutions over spikes next to PyTorch's dense ones, by layer and firing rate.

    python -m research.studies.event_convolution [--threads N] [--rounds N] [--steps] [--break-even FILE]

Each line is a layer of a ResNet-18 on 32x32 pixels, with 64 images and time steps in all. It has the time of the
forward pass and of the gradients of weights and input as a part of the dense time, the least of some rounds each. The
rate is also the share of inputs whose gradient is needed.

With ``--break-even`` it writes the rates up to which the kernels are faster, for layers of equal inputs and outputs, as
``src/shortcut_snn/neurons/break_even.csv`` has them.

With ``--steps`` it times training steps of a ResNet-18 with several surrogates instead, as parts of the time of its
dense convolutions. Surrogates differ in how many inputs of a convolution need a gradient: with ATan, which is nowhere
0, all do.
"""

import argparse
import itertools
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from research.benchmarks.peers.convolutions import ConvolutionsOnly
from shortcut_snn import nets
from shortcut_snn._utils.files import write_csv
from shortcut_snn.neurons import LIF, ATan, Rectangle, Surrogate, Triangle, keep_freed_memory
from shortcut_snn.neurons.cpu.event_launch import forward, input_grad, weight_grad
from shortcut_snn.neurons.packing import pack

IMAGES, STEPS = 16, 4
# Channels, outputs, pixels, kernel, stride.
LAYERS = (
    (64, 64, 32, 3, 1), (128, 128, 16, 3, 1), (256, 256, 8, 3, 1), (512, 512, 4, 3, 1), (64, 128, 32, 3, 2),
    (64, 128, 32, 1, 2), (16, 16, 32, 3, 1), (32, 32, 16, 3, 1), (16, 32, 32, 3, 2), (16, 32, 32, 1, 2),
)  # fmt: skip
# Kernel size and width of the layers of a table of break-even rates, and the rates that are tried.
SHAPES = list(itertools.product((3, 1), (16, 32, 64, 128, 256, 512)))
RATES = [round(0.02 * i, 2) for i in range(1, 26)]
# Width and batch size of a ResNet-18.
NETWORKS = ((64, 16), (16, 64))
SURROGATES = (ATan(), Triangle(), Rectangle())


def seconds(run: Callable[[], object]) -> float:
    """Return the time of a call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def ratios(layer: tuple[int, ...], rate: float, rounds: int) -> list[float]:
    """Return the times of forward pass, weight gradient and input gradient as parts of the dense ones."""
    channels, outputs, size, kernel, stride = layer
    spikes = (torch.rand(STEPS, IMAGES, size, size, channels) < rate).float().movedim(-1, 2)
    bits, flat = pack(spikes), spikes.flatten(0, 1)
    weight = (0.1 * torch.randn(outputs, channels, kernel, kernel)).contiguous(memory_format=torch.channels_last)
    grad = torch.randn_like(F.conv2d(flat, weight, None, stride, kernel // 2))

    def dense_grad(of_input: bool) -> object:
        return torch.ops.aten.convolution_backward(
            grad, flat, weight, None, [stride] * 2, [kernel // 2] * 2, [1, 1], False, [0, 0], 1,
            [of_input, not of_input, False],
        )  # fmt: skip

    runs = (
        lambda: forward(bits, flat.shape, weight, None, stride),
        lambda: F.conv2d(flat, weight, None, stride, kernel // 2),
        lambda: weight_grad(bits, flat.shape, grad, weight, stride),
        lambda: dense_grad(False),
        lambda: input_grad(bits, flat.shape, grad, weight, stride),
        lambda: dense_grad(True),
    )
    # The first round compiles the kernels.
    times = [[seconds(run) for run in runs] for _ in range(rounds + 1)]
    best = [min(column) for column in zip(*times[1:], strict=True)]
    return [events / dense for events, dense in zip(best[::2], best[1::2], strict=True)]


def break_even(width: int, kernel: int, rounds: int) -> list[float]:
    """Return the highest rates at which forward pass, weight gradient and input gradient are not slower than dense."""
    layer = (width, width, min(32, 2048 // width), kernel, 1)
    table = [ratios(layer, rate, rounds) for rate in RATES]
    columns = zip(*table, strict=True)
    return [max((r for r, part in zip(RATES, parts, strict=True) if part <= 1), default=0.0) for parts in columns]


def step_seconds(width: int, batch: int, rounds: int) -> list[float]:
    """Return the least times of the dense convolutions and of a training step with each surrogate; they take turns."""
    images = torch.randn(batch, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(100, (batch,))

    def network(surrogate: Surrogate) -> nets.SpikingResNet:
        made = nets.spiking_resnet18(100, STEPS, width=width, make_neuron=lambda: LIF(surrogate=surrogate))
        return made.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    # Each run drops the gradients of the last first, so that none is spent on adding to them.
    def train(net: nn.Module) -> None:
        net.zero_grad()
        F.cross_entropy(net(images), labels).backward()

    def convolve() -> None:
        for leaf in dense.leaves():
            leaf.grad = None
        dense.backward(dense.forward())

    networks = [network(surrogate) for surrogate in SURROGATES]
    dense = ConvolutionsOnly(networks[0], images, torch.float32, STEPS)
    runs: list[Callable[[], object]] = [
        convolve,
        *(partial(train, net) for net in networks),
    ]
    times = [[seconds(run) for run in runs] for _ in range(rounds + 1)]
    return [min(column) for column in zip(*times[1:], strict=True)]


def main() -> None:
    """Print one line for a layer, or for a network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.05, 0.1, 0.2, 0.3])
    parser.add_argument("--steps", action="store_true", help="training steps of a network with several surrogates")
    parser.add_argument("--break-even", type=Path, metavar="FILE", help="write the break-even rates to a table")
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    if options.break_even:
        with torch.no_grad():
            rows = [break_even(width, kernel, options.rounds) for kernel, width in SHAPES]
        columns = ("kernel", "width", "forward", "weight_gradient", "input_gradient")
        write_csv(options.break_even, [
            dict(zip(columns, (*shape, *rates), strict=True)) for shape, rates in zip(SHAPES, rows, strict=True)
        ])  # fmt: skip
        return
    for width, batch in NETWORKS if options.steps else ():
        dense, *steps = step_seconds(width, batch, options.rounds)
        shares = [f"{type(each).__name__} {least / dense:.2f}" for each, least in zip(SURROGATES, steps, strict=True)]
        print(f"ResNet-18, {width} wide, batch {batch}: dense {dense:.3f} s; as parts of it {', '.join(shares)}")
    for layer in () if options.steps else LAYERS:
        channels, outputs, size, kernel, stride = layer
        line = f"{channels:4d} -> {outputs:4d}, {size:2d} px, {kernel}x{kernel}, stride {stride}:"
        with torch.no_grad():
            for rate in options.rates:
                by_events = ratios(layer, rate, options.rounds)
                names = ("forward", "weight gradient", "input gradient")
                parts = (f"{name} {part:.2f}" for name, part in zip(names, by_events, strict=True))
                line += f"  {rate:.0%}: {', '.join(parts)};"
        print(line, flush=True)


if __name__ == "__main__":
    main()
