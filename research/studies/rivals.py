"""Train residual networks that published initialisations start without norms, for docs/initialisations.md.

    python -m research.studies.rivals OUT --data FILE.npz [--only '34-basic-*'] [options of claim.py]
    python -m research.studies.rivals starts FILE.npz

``starts`` prints what new ResNet-34s with basic blocks keep of their input, and how their gradient grows.

Norms stay at a mean of 0 and a variance of 1, so that each is a scale and a shift by channel. A setting names layers,
block and initialisation:

- ``lsuv``: orthogonal weights, divided layer by layer by the standard deviation of the layer's output on 256 training
  images (Mishkin and Matas, "All you need is a good init", ICLR 2016);
- ``micheli``: weights of variance ``1 / (inputs * P(u > threshold))``, u standard normal (Micheli et al., "Deep
  Activity Propagation via Weight Initialization in Spiking Neural Networks", 2024, arXiv 2410.00580);
- ``spikeinit``: the formulas, neurons and small residuals of SpikeInit (ICML 2026; github.com/xyshi2000/SpikeInit), for
  a firing rate of 0.1. Its authors refuse basic blocks.

The classifier starts as that of all networks of claim.py. Rows are those of ``claim.py depth``.
"""

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from shortcut_snn import components, nets
from shortcut_snn.nets.blocks import MSBlock, Projection, SEWBlock
from shortcut_snn.neurons import LIF, Surrogate
from shortcut_snn.neurons.step_functions import straight_through

from . import claim, depth

SAMPLES, FIRST_IMAGES = 1_000_000, 256
STANDARD_NORMAL = torch.distributions.Normal(0.0, 1.0)


class NormFreeResNet(nets.SpikingResNet):
    """A ResNet whose norms never normalise: each is a scale and a shift by channel."""

    def train(self, mode: bool = True) -> "NormFreeResNet":
        """Set the mode of all modules but norms, whose statistics stay at 0 and 1."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def _initialise(self, *options: Any) -> None:
        super()._initialise(*options)
        with torch.no_grad():
            self._start()
        self.train()

    def _start(self) -> None:
        raise NotImplementedError

    def _fill(self, first_gain: float, gain: float) -> None:
        """Draw the weights of the first convolution, of images, and of the others, of spikes."""
        first, *others = (module for module in self.modules() if isinstance(module, nn.Conv2d))
        fill(first, first_gain)
        for layer in others:
            fill(layer, gain)


class MicheliResNet(NormFreeResNet):
    """A ResNet with the weights of Micheli et al.; those of the first layer give its currents a variance of 1."""

    def _start(self) -> None:
        neuron = next(module for module in self.modules() if isinstance(module, LIF))
        rate = 1 - float(STANDARD_NORMAL.cdf(torch.tensor(neuron.threshold)))
        self._fill(1.0, rate**-0.5)


class LSUVResNet(NormFreeResNet):
    """A ResNet with orthogonal weights that give each convolution's output a variance of 1."""

    images: ClassVar[Tensor]
    """Normalised images that the layers are measured on."""

    def _start(self) -> None:
        hooks = []
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.orthogonal_(module.weight)
                hooks.append(module.register_forward_hook(self._set_variance))
        self.eval()
        # Layers run in their order, so each is measured behind layers that are set.
        self.features(self.images.unsqueeze(0))
        for hook in hooks:
            hook.remove()

    @staticmethod
    def _set_variance(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        deviation = output.std()
        assert isinstance(layer.weight, Tensor)
        layer.weight.div_(deviation)
        return output / deviation


@dataclass(frozen=True)
class PiecewiseExponential:
    """Surrogate ``height * exp(-2 * height * |v|)``, whose area is 1; the height may differ by channel."""

    height: Tensor | float

    def __call__(self, v: Tensor) -> Tensor:
        """Return ds/du."""
        return self.height * torch.exp(-2 * self.height * v.abs())


class AdaptiveLIF(LIF):
    """SpikeInit's neuron: it learns a gain and a shift by channel, and the membranes' deviation sets its surrogate.

    In each pass the height of a channel's surrogate is ``height * deviation`` over the standard deviation of its
    membrane potential in an image. ``_start`` of the network sets channels, ``height`` and ``deviation``.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.height, self.deviation = 1.0, 1.0
        # At this deviation 1 % of the membranes exceed the threshold.
        self.least = self.threshold / float(STANDARD_NORMAL.icdf(torch.tensor(0.99)))
        self.gain, self.shift = nn.Parameter(torch.ones(1)), nn.Parameter(torch.zeros(1))

    def forward(self, current: Tensor) -> Tensor:
        """Return the spikes ``[T, N, C, H, W]`` of a sequence."""
        # The surrogate of the first step depends on the membranes of all, so they are computed before.
        with torch.no_grad():
            membranes = torch.stack([membrane for membrane, _ in self._steps(current, self.surrogate)])
            deviation = membranes.std((0, 3, 4)).clamp_min(self.least)
        surrogate = PiecewiseExponential((self.height * self.deviation / deviation)[..., None, None])
        return torch.stack([spike for _, spike in self._steps(current, surrogate)])

    def _steps(self, current: Tensor, surrogate: Surrogate) -> list[tuple[Tensor, Tensor]]:
        """Return the membrane potential before the reset, and the spikes, of each step."""
        gain, shift = self.gain.view(1, -1, 1, 1), self.shift.view(1, -1, 1, 1)
        state, steps = torch.zeros_like(current[0]), []
        for each in current:
            membrane = self.decay * state + each
            v = gain * membrane + shift - self.threshold
            spike = straight_through((v > 0).to(v.dtype), v, surrogate)
            state = membrane * (1 - spike.detach())
            steps.append((membrane, spike))
        return steps


class SpikeInitResNet(NormFreeResNet):
    """A ResNet with SpikeInit's weights, neurons and small residuals, for a firing rate of 0.1."""

    rate: ClassVar[float] = 0.1

    def _start(self) -> None:
        neurons = [module for module in self.modules() if isinstance(module, AdaptiveLIF)]
        decay, threshold = float(neurons[0].decay), neurons[0].threshold
        formulas = spikeinit(decay, threshold, self.rate, self.time_steps)
        self._set_channels(neurons)
        for neuron in neurons:
            neuron.height, neuron.deviation = formulas.height, formulas.deviation
        self._fill(formulas.first_gain, formulas.gain)
        # SEW blocks that seldom fire. Basic blocks would not pass on spikes then: a current of 1 does not exceed 1.
        quiet = neurons[0].least * (1 - decay) / math.sqrt(0.5)
        for module in self.modules():
            if isinstance(module, SEWBlock):
                fill(module.conv2, quiet)
            elif isinstance(module, MSBlock):
                nn.init.zeros_(module.conv2.weight)
                if isinstance(module.project, Projection):
                    # Its inputs are currents, whose variance it keeps.
                    fill(module.project.conv, 1.0)
            elif isinstance(module, nn.BatchNorm2d):
                # The neurons have gains and shifts instead.
                module.requires_grad_(False)

    def _set_channels(self, neurons: Sequence[AdaptiveLIF]) -> None:
        """Give each neuron a gain and a shift by channel."""

        def set_channels(neuron: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            channels = inputs[0].shape[2]
            neuron.gain, neuron.shift = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

        hooks = [neuron.register_forward_pre_hook(set_channels) for neuron in neurons]
        self.features(self.example_input().unsqueeze(0))
        for hook in hooks:
            hook.remove()


@dataclass(frozen=True)
class Formulas:
    """What SpikeInit computes from a decay, a threshold, a firing rate and a number of time steps."""

    gain: float
    """Standard deviation of a layer's weights, times the root of its inputs."""
    first_gain: float
    """The same of the first layer, whose input is constant."""
    deviation: float
    """Standard deviation of the membrane potential."""
    height: float
    """Of the surrogate that keeps the gradient's variance."""


@cache
def spikeinit(decay: float, threshold: float, rate: float, time_steps: int) -> Formulas:
    """Return SpikeInit's formulas, by simulation of neurons with normal currents."""
    noise = torch.randn(time_steps, SAMPLES, generator=torch.Generator().manual_seed(0))

    def membranes(currents: Tensor) -> Tensor:
        membrane = torch.zeros(SAMPLES)
        for current in currents:
            membrane = torch.where(membrane > threshold, 0.0, decay * membrane) + current
        return membrane

    def fired(currents: Tensor) -> float:
        return (membranes(currents) > threshold).float().mean().item()

    gain = root(lambda gain: fired(gain * math.sqrt(rate) * noise) - rate)
    first_gain = root(lambda gain: fired(gain * noise[:1].expand(time_steps, -1)) - rate)
    last = membranes(gain * math.sqrt(rate) * noise)
    # A membrane passes on the gradients of later steps unless it was reset.
    kept = (1 - rate) * decay**2
    through_time = sum((1 - kept ** (step + 1)) / (1 - kept) for step in range(time_steps)) / time_steps
    distance = (last - threshold).abs()

    def excess(height: float) -> float:
        squared = PiecewiseExponential(height)(distance).square().mean().item()
        return squared - 1 / (through_time * gain**2)

    return Formulas(gain, first_gain, last.std().item(), root(excess))


def root(function: Callable[[float], float]) -> float:
    """Return where a function that grows crosses 0 between 0 and 10, by bisection."""
    low, high = 0.0, 10.0
    if function(high) < 0:
        raise ValueError(f"the function does not reach 0 up to {high:g}")
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) < 0 else (low, middle)
    return (low + high) / 2


def fill(layer: nn.Conv2d, gain: float) -> None:
    """Draw a layer's weights from a normal distribution of deviation ``gain / sqrt(inputs)``."""
    nn.init.normal_(layer.weight, 0.0, gain / math.sqrt(layer.weight[0].numel()))


components.neuron("adaptive_lif")(AdaptiveLIF)
NETWORKS = {"lsuv": LSUVResNet, "micheli": MicheliResNet, "spikeinit": SpikeInitResNet}
_SIZES = {"34": ((3, 4, 6, 3), 16), "110": ((18, 18, 18), 8)}
for _name, _network in NETWORKS.items():
    for _layers, (_blocks, _width) in _SIZES.items():
        components.network(f"resnet{_layers}_{_name}")(partial(_network, _blocks, width=_width))
SETTINGS: dict[str, claim.Entries] = {
    f"{layers}-{block}-{name}": {
        "network": {"kind": f"resnet{layers}_{name}", "width": width, "block": block},
        "neuron": {"kind": "adaptive_lif"} if name == "spikeinit" else {},
    }
    for layers, (_, width) in _SIZES.items()
    for block in ("basic", "sew", "ms")
    for name in NETWORKS
}


def first_images(data: Path) -> Tensor:
    """Return the first training images of a file, normalised by channel, ``[N, C, H, W]``."""
    with np.load(data, allow_pickle=False) as archive:
        images = torch.from_numpy(archive["x_train"][:FIRST_IMAGES]).permute(0, 3, 1, 2).float()
    axes = (0, 2, 3)
    return (images - images.mean(axes, keepdim=True)) / images.std(axes, keepdim=True)


def rivals(lab: claim.Lab) -> None:
    """Compare published initialisations for networks without norms."""
    LSUVResNet.images = first_images(lab.options.data)
    lab.compare(SETTINGS, ["vanilla"])


def starts(data: Path) -> None:
    """Print measures of new networks with basic blocks."""
    LSUVResNet.images = first_images(data)
    for method in ("vanilla", "initialised"):
        depth.print_start(f"34-basic, {method}", claim.depth_recipe("34-basic", method, data))
    for setting in (name for name in SETTINGS if name.startswith("34-basic")):
        depth.print_start(setting, claim.recipe_in(SETTINGS[setting], "vanilla", data))


def main(arguments: Sequence[str]) -> int:
    """Read the command line and run the table or the measures; return the exit status."""
    if arguments[:1] == ["starts"]:
        starts(Path(arguments[1]))
        return 0
    claim.TABLES["rivals"] = rivals
    return claim.main(["rivals", *arguments])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
