"""Compare the measured gain of each layer with the formula sqrt(E[surrogate^2] / Var[spikes]).

    python research/studies/gain_formula.py OUT.csv [--width 16] [--samples 64]

Untrained networks of 18 layers on Gaussian images: the geometric mean of the ratio over the layers, and the extremes.
It takes about a minute on one core.
"""

import argparse
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from shortcut_snn import nets
from shortcut_snn._utils.files import write_csv
from shortcut_snn._utils.module_state import hooked
from shortcut_snn._utils.statistics import geometric_mean
from shortcut_snn.introspection.neurons import find_neurons
from shortcut_snn.measurement import examine
from shortcut_snn.measurement.layers import chain
from shortcut_snn.neurons import LIF, ATan, Neuron, Rectangle, Triangle

SURROGATES = {"rectangle 1": Rectangle(1.0), "triangle": Triangle(), "rectangle 4": Rectangle(4.0), "atan": ATan()}
# (blocks, T, reset, gradient through the reset)
CASES = {
    "plain, T = 1": ("plain", 1, "hard", False),
    "plain, T = 4, reset detached": ("plain", 4, "hard", True),
    "plain, T = 4, reset attached": ("plain", 4, "hard", False),
    "plain, T = 4, soft reset attached": ("plain", 4, "soft", False),
    "sum inside the neuron (basic), T = 1": ("basic", 1, "hard", False),
    "sum of spikes (sew), T = 1": ("sew", 1, "hard", False),
    "sum of currents (ms), T = 1": ("ms", 1, "hard", False),
}


@torch.no_grad()
def membranes(neuron: Neuron, current: Tensor) -> Tensor:
    """Return the membrane potentials before the reset, ``[T, N, ...]``, for a current of the same shape."""
    out, u = torch.empty_like(current), torch.zeros_like(current[0])
    for t in range(current.shape[0]):
        out[t] = neuron.decay * u + current[t]
        u = neuron.after(out[t], neuron.fire(out[t] - neuron.threshold))
    return out


@torch.no_grad()
def predicted_gain(neuron: Neuron, current: Tensor) -> float:
    """Return ``sqrt(E[surrogate^2] / Var[spikes])`` of a neuron layer.

    This is the factor on the gradient, from the next layer's membrane potential to this one's, if only a convolution
    and a batch norm lie between them: no residual, no earlier time step, no gradient through a reset.

    Args:
        neuron: the layer.
        current: its input ``[T, N, C, ...]``.
    """
    u = membranes(neuron, current.float())
    spikes = (u > neuron.threshold).float()
    slope = neuron.surrogate(u - neuron.threshold)
    # The batch norm behind takes the mean of each channel away.
    variance = spikes.var([0, 1, *range(3, spikes.dim())], correction=0).mean()
    return (slope.square().mean() / variance).sqrt().item()


@torch.no_grad()
def predicted_gains(network: nn.Module, images: Tensor) -> dict[str, float]:
    """Return the predicted gain of every layer on a batch, whose statistics are used where the network trains."""
    gains: dict[str, float] = {}
    with hooked(
        find_neurons(network), lambda name, neuron, args, out: gains.update({name: predicted_gain(neuron, args[0])})
    ):
        network(images)
    return gains


def ratios(
    surrogate: Any, block: Any, steps: int, reset: Any, detached: bool, options: argparse.Namespace
) -> list[float]:
    """Return measured over predicted gain for each layer but the last."""
    torch.manual_seed(0)
    net = nets.spiking_resnet18(
        10, steps, width=options.width, block=block,
        make_neuron=lambda: LIF(surrogate=surrogate, reset=reset, detach_reset=detached),
    )  # fmt: skip
    images, labels = torch.randn(options.samples, 3, 16, 16), torch.randint(10, (options.samples,))
    measured = chain(examine(net, [(images, labels)]).layers)
    expected = predicted_gains(net.train(), images)
    return [layer.gain / expected[layer.layer] for layer in measured[:-1]]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--samples", type=int, default=64)
    options = parser.parse_args()
    rows = []
    for case, settings in CASES.items():
        for name, surrogate in SURROGATES.items():
            found = ratios(surrogate, *settings, options)
            figures = {"mean": geometric_mean(found), "least": min(found), "most": max(found)}
            figures["whole_network"] = math.prod(found)
            rows.append({"case": case, "surrogate": name} | {key: f"{value:.3g}" for key, value in figures.items()})
            print(" | ".join(rows[-1].values()), flush=True)
            write_csv(options.out, rows)


if __name__ == "__main__":
    main()
