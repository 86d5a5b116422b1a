"""Folded ResNets and VGGs as graphs of integers; :mod:`.integer_reference` says what a graph computes.

A value stands for a real number: an integer times its unit. Counts of spikes have the unit 1.

- A convolution has a scale per output channel. If it alone feeds a neuron, its sums stay as they are: the unit of the
  channel is its scale, and the threshold is divided by it. A leak needs digits after the point, so that sums are
  shifted to the left first.
- Where branches are summed (basic and MS blocks), all have the unit ``2 ** -12``: sums are multiplied by an integer and
  shifted to the right.
- The first layer takes bytes or counts. Its weights contain the deviation; an integer mean is subtracted, so that
  padding with 0 stays right. What rounding leaves of the mean is part of the bias.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn

from .._utils.module_state import hooked
from ..introspection.neurons import spiking_layers
from ..nets import SpikeConv2d, SpikingVGG
from ..nets.blocks import BLOCKS, BasicBlock, MSBlock, PlainBlock, Projection, SEWBlock, SpikingProjection
from ..nets.resnet import SpikingResNet, SpikingResNet19
from ..nets.stems import MembraneStem, Stem
from ..nets.vgg import ConvSpike
from ..neurons import ILIF, Neuron
from ..neurons.current_neuron import CurrentNeuron
from ..neurons.modules import is_lif
from .rounding import quantise
from .spec import NetworkSpec

BRANCH_DIGITS = 12
"""Binary digits after the point of currents that are summed, and of the logits."""
LEAK_DIGITS = 8
"""Largest number of binary digits after the point that a leak gets."""
DECAY_DIGITS, MULTIPLIER_DIGITS, EVENT_GAIN = 15, 20, 16
"""A decay is a fraction of ``2 ** 15``. Multipliers have 20 bits. Counts of events are multiplied by 16, as is their
mean, which is small."""
OUTER_BITS = 8
"""Bits of the weights of the first convolution, of the readout, and of convolutions of currents (MS blocks), which few
bits harm most."""


@torch.no_grad()
def mean_inputs(network: nn.Module, example: Tensor) -> dict[str, Tensor]:
    """Return the mean of each input channel of the convolutions and linear layers of a network."""
    layers = {path: layer for path, layer in network.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)}
    means: dict[str, Tensor] = {}

    def record(path: str, layer: nn.Module, args: tuple[Tensor, ...]) -> None:
        x = args[0].double()
        means[path] = x.flatten(0, -2).mean(0) if isinstance(layer, nn.Linear) else x.flatten(0, -4).mean((0, 2, 3))

    with hooked(layers, pre=record):
        network(example)
    return means


def integer_graph(
    network: nn.Module, spec: NetworkSpec, bits: int, means: Mapping[str, Tensor] | None = None
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the JSON object and the tensors of the integer form of a folded network.

    Rounding changes the sum of a channel's weights, and so the current of an average input: with ``means`` the bias
    takes that back.
    """
    builder = _Builder(spec, bits, means or {})
    check_integer_form(network)
    features = builder.vgg(network) if isinstance(network, SpikingVGG) else builder.resnet(network)
    assert isinstance(network, SpikingResNet | SpikingVGG)
    if network.readout != "mean":
        raise _unsupported("classifier", "returns logits of every step, not their mean")
    total = builder.new("total", features.unit / spec.time_steps, features.bound * spec.time_steps, features.shape)
    builder.conv("classifier", network.classifier, total, unit=2.0**-BRANCH_DIGITS, is_outer=True)
    readout = {**builder.nodes.pop(), "inputs": [features.name]}
    inputs = spec.inputs
    image = [inputs.channels, *inputs.image_size]
    about = {
        **spec.to_dict(),
        "integer_format": 1,
        "bits": bits,
        "time_steps": spec.time_steps,
        "static": inputs.kind == "static",
        "input": image if inputs.kind == "static" else [spec.time_steps, *image],
        "gain": builder.gain,
        "nodes": builder.nodes,
        "readout": readout,
        "logit_scale": 2.0**-BRANCH_DIGITS,
    }
    return about, builder.tensors


def check_integer_form(network: nn.Module) -> None:
    """Refuse a network, folded or not, that is not a ResNet or VGG, or whose neurons have no integer form."""
    if type(network) not in (SpikingResNet, SpikingResNet19, SpikingVGG):
        raise ValueError(f"integer files hold ResNets and VGGs, not {type(network).__name__}: export to onnx")
    for path, layer in spiking_layers(network).items():
        neuron: Any = layer if isinstance(layer, Neuron) else layer.neuron
        if not (is_lif(neuron) or type(neuron) is ILIF):
            raise _unsupported(path, f"has neurons of {type(neuron).__name__}, not LIF, IF, PLIF or ILIF")


def _check_type(path: str, layer: nn.Module, *types: type[nn.Module]) -> None:
    """Refuse a layer of an unexpected class, which may compute something else."""
    if type(layer) not in types:
        raise _unsupported(path, f"is a {type(layer).__name__}")


def _unsupported(path: str, reason: str) -> ValueError:
    return ValueError(f"{path} {reason}, which integer files do not represent: export to onnx")


@dataclass(frozen=True)
class _Value:
    """An output of a layer: its unit, a scalar or one number per channel, and the largest absolute value."""

    name: str
    unit: Any
    bound: int
    shape: tuple[int, ...]
    is_current: bool
    is_constant: bool


class _Builder:
    """Nodes and tensors, added layer by layer."""

    def __init__(self, spec: NetworkSpec, bits: int, means: Mapping[str, Tensor]) -> None:
        inputs = spec.inputs
        self.bits, self.steps, self.means = bits, spec.time_steps, means
        self.nodes: list[dict[str, Any]] = []
        self.tensors: dict[str, Tensor] = {}
        is_static = inputs.kind == "static"
        self.gain = 1 if is_static else EVENT_GAIN
        mean, std = (torch.tensor(values, dtype=torch.float64) for values in (inputs.mean, inputs.std))
        one = self.gain * (255 if is_static else 1)
        offset = (mean * one).round()
        self.tensors["input.offset"] = offset.to(torch.int32)
        self.input_rest = (offset / one - mean) / std
        bound = int(torch.maximum(offset.abs(), 255 * self.gain - offset).max())
        shape = (inputs.channels, *inputs.image_size)
        self.image = _Value("input", 1 / (one * std), bound, shape, is_current=False, is_constant=is_static)

    def new(
        self, name: str, unit: Any, bound: int, shape: tuple[int, ...], is_current: bool = False,
        is_constant: bool = False,
    ) -> _Value:  # fmt: skip
        """Return a value, whose bound is checked: counts have 16 bits, currents 32."""
        if bound >= 2 ** (31 if is_current or name == "total" else 15):
            needed, width = bound.bit_length() + 1, 32 if is_current else 16
            raise ValueError(
                f"{name} may need {needed} bits for its values, but integer files have {width}: use a smaller network, "
                f"fewer steps or fewer bits"
            )
        return _Value(name, unit, bound, shape, is_current, is_constant)

    def node(self, name: str, op: str, inputs: list[_Value], shape: tuple[int, ...], **more: Any) -> bool:
        """Add a node and return whether it is constant in time."""
        once = op != "neuron" and all(x.is_constant for x in inputs)
        names = [x.name for x in inputs]
        self.nodes.append({"name": name, "op": op, "inputs": names, "shape": list(shape), "once": once, **more})
        return once

    def resnet(self, network: Any) -> _Value:
        _check_type("stem", network.stem, Stem, MembraneStem)
        stem, large = network.stem, not isinstance(network.stem.pool, nn.Identity)
        if network.last_spike is None:
            x = self.spiking("stem.conv", stem.conv, "stem.spike", stem.spike, self.image, is_outer=True)
        else:
            x = self.conv("stem.conv", stem.conv, self.image, unit=2.0**-BRANCH_DIGITS, is_outer=True)
        x = self.pool("stem.pool", stem.pool, x) if large else x
        for stage in network.stage_names:
            for index, block in enumerate(network.get_submodule(stage)):
                path = f"{stage}.{index}"
                _check_type(path, block, *BLOCKS.values())
                x = self.ms(path, block, x) if isinstance(block, MSBlock) else self.block(path, block, x)
        if network.last_spike is not None:
            x = self.neuron("last_spike", network.last_spike, [x])
        x = self.mean(x)
        if network.hidden is not None:
            x = self.spiking("hidden", network.hidden, "hidden_spike", network.hidden_spike, x)
        return x

    def vgg(self, network: Any) -> _Value:
        x = self.image
        for stage in network.stage_names:
            for index, layer in enumerate(network.get_submodule(stage)):
                path = f"{stage}.{index}"
                _check_type(path, layer, ConvSpike)
                x = x if isinstance(layer.pool, nn.Identity) else self.pool(f"{path}.pool", layer.pool, x)
                is_first = x is self.image
                x = self.spiking(f"{path}.conv", layer.conv, f"{path}.spike", layer.spike, x, is_outer=is_first)
        return self.mean(x)

    def block(self, path: str, block: PlainBlock, x: _Value) -> _Value:
        """Add a plain, basic or SEW block."""
        hidden = self.spiking(f"{path}.conv1", block.conv1, f"{path}.spike1", block.spike1, x)
        project: Any = getattr(block, "project", nn.Identity())
        _check_type(f"{path}.project", project, nn.Identity, Projection, SpikingProjection)
        if isinstance(block, BasicBlock):
            current = self.conv(f"{path}.conv2", block.conv2, hidden, unit=2.0**-BRANCH_DIGITS)
            if isinstance(project, nn.Identity):
                bound = x.bound << BRANCH_DIGITS
                self.node(f"{path}.project", "shift", [x], x.shape, shift=BRANCH_DIGITS)
                skip = self.new(f"{path}.project", current.unit, bound, x.shape, is_current=True)
            else:
                skip = self.conv(f"{path}.project.conv", project.conv, x, unit=2.0**-BRANCH_DIGITS)
            return self.neuron(f"{path}.spike2", block.spike2, [current, skip])
        spikes = self.spiking(f"{path}.conv2", block.conv2, f"{path}.spike2", block.spike2, hidden)
        if not isinstance(block, SEWBlock):
            return spikes
        if not isinstance(project, nn.Identity):
            x = self.spiking(f"{path}.project.conv", project.conv, f"{path}.project.spike", project.spike, x)
        return self.add(path, spikes, x)

    def ms(self, path: str, block: MSBlock, x: _Value) -> _Value:
        """Add a membrane-shortcut block, whose inputs and outputs are currents."""
        spikes = self.neuron(f"{path}.spike1", block.spike1, [x])
        spikes = self.spiking(f"{path}.conv1", block.conv1, f"{path}.spike2", block.spike2, spikes)
        current = self.conv(f"{path}.conv2", block.conv2, spikes, unit=2.0**-BRANCH_DIGITS)
        project: Any = block.project
        _check_type(f"{path}.project", project, nn.Identity, Projection)
        if not isinstance(project, nn.Identity):
            x = self.conv(f"{path}.project.conv", project.conv, x, unit=2.0**-BRANCH_DIGITS)
        return self.add(path, current, x)

    def add(self, path: str, a: _Value, b: _Value) -> _Value:
        self.node(path, "add", [a, b], a.shape)
        return self.new(path, a.unit, a.bound + b.bound, a.shape, a.is_current)

    def mean(self, x: _Value) -> _Value:
        """Add the sum over all pixels."""
        pixels = x.shape[1] * x.shape[2]
        self.node("features", "sum", [x], (x.shape[0], 1, 1))
        return self.new("features", x.unit / pixels, x.bound * pixels, (x.shape[0], 1, 1))

    def pool(self, path: str, pool: Any, x: _Value) -> _Value:
        size, stride, padding = (_pair(value) for value in (pool.kernel_size, pool.stride, pool.padding))
        sides = zip(x.shape[1:], size, stride, padding, strict=True)
        up = [step - 1 if pool.ceil_mode else 0 for step in stride]
        over = [(n + 2 * pad - k + more) // step + 1 for (n, k, step, pad), more in zip(sides, up, strict=True)]
        shape, window = (x.shape[0], *over), {"size": size, "stride": stride, "padding": padding}
        if isinstance(pool, nn.MaxPool2d) and pool.dilation == 1:
            once = self.node(path, "maxpool", [x], shape, **window, up=pool.ceil_mode)
            return self.new(path, x.unit, x.bound, shape, x.is_current, once)
        if not isinstance(pool, nn.AvgPool2d) or (size, stride, padding) != ([2, 2], [2, 2], [0, 0]):
            raise _unsupported(path, f"is a {type(pool).__name__} other than the mean of 2 x 2 pixels")
        self.node(path, "sumpool", [x], shape, **window)
        return self.new(path, x.unit / 4, 4 * x.bound, shape)

    def spiking(
        self, path: str, layer: Any, neuron_path: str, neuron: Any, x: _Value, is_outer: bool = False
    ) -> _Value:
        """Add a convolution or linear layer and the neuron that it alone feeds."""
        _check_type(neuron_path, neuron, CurrentNeuron)
        return self.neuron(neuron_path, neuron, [self.conv(path, layer, x, neuron=neuron.neuron, is_outer=is_outer)])

    def conv(
        self, path: str, layer: Any, x: _Value, unit: float | None = None, neuron: Any = None, is_outer: bool = False
    ) -> _Value:
        """Add a convolution or linear layer whose output has a unit, or is the current of a neuron."""
        weight, bias, window = _read_layer(path, layer)
        if x is self.image:
            bias = bias + (weight * self.input_rest.view(-1, 1, 1)).sum((1, 2, 3))
        input_unit = torch.as_tensor(x.unit, dtype=torch.float64).view(-1, 1, 1)
        weight = weight * input_unit
        decay = 0.0 if neuron is None else float(neuron.decay)
        # The weights of a channel may be nearly 0: its multiplier, or its bias and threshold, must fit all the same.
        if unit is None:
            most = bias.abs() * self.steps + float(neuron.threshold) * getattr(neuron, "max_spikes", 1)
            smallest = most * 2.0 ** (LEAK_DIGITS - 29)
        else:
            smallest = torch.full_like(bias, unit * 2.0**-MULTIPLIER_DIGITS)
        bits = max(self.bits, OUTER_BITS) if is_outer or x.is_current else self.bits
        integers, scale = quantise(weight, bits, smallest)
        if path in self.means:
            errors = (weight - integers * scale.view(-1, 1, 1, 1)) / input_unit
            bias = bias + errors.sum((2, 3)) @ self.means[path]
        sums = integers.abs().sum((1, 2, 3)) * x.bound
        shift, rescale, multiplier = 0, None, torch.ones_like(scale)
        if unit is None:
            # Without a leak the sums are exact as they are.
            digits = range(0 if decay in (0.0, 1.0) else LEAK_DIGITS, -1, -1)
            fits = [n for n in digits if float((sums * 2**n).max()) * _growth(decay, self.steps) < 2**30]
            shift = fits[0] if fits else 0
            units, bound = scale / 2**shift, sums * 2**shift
        else:
            rescale = int(MULTIPLIER_DIGITS - torch.log2(scale.max() / unit).ceil())
            # Sums of currents and those of the readout have 64 bits, of which a multiplier needs 20.
            if rescale < 1 or float(sums.max()) >= 2 ** (42 if x.is_current or x.name == "total" else 31):
                raise _unsupported(path, "has sums that are too large")
            multiplier = (scale / unit * 2.0**rescale).round()
            units, bound = torch.full_like(scale, unit), (sums * multiplier / 2.0**rescale).ceil() + 1
            self.tensors[f"{path}.multiplier"] = multiplier.to(torch.int32)
        rounded = (bias / units).round()
        shape = (len(weight), *_shape(x.shape[1:], window))
        largest = int((bound + rounded.abs()).max())
        output = self.new(path, units if unit is None else unit, largest, shape, True, x.is_constant)
        self.tensors[f"{path}.weight"] = pack(integers) if bits <= 4 else integers.to(torch.int8)
        self.tensors[f"{path}.bias"] = rounded.to(torch.int32)
        about = {"bits": bits, "shift": shift, "rescale": rescale, "sum_bound": int(sums.max()), "bound": largest}
        self.node(path, "conv", [x], shape, **window, **about)
        return output

    def neuron(self, path: str, layer: Any, inputs: list[_Value]) -> _Value:
        """Add a layer of neurons, whose current is the sum of its inputs."""
        _check_type(path, layer, CurrentNeuron)
        neuron, x = layer.neuron, inputs[0]
        most = neuron.max_spikes if type(neuron) is ILIF else 1
        threshold = float(neuron.threshold) / torch.as_tensor(x.unit, dtype=torch.float64).expand(x.shape[0])
        if type(neuron) is ILIF:
            # The nearest integer is n where v is above (n - 0.5) thresholds; at exactly that, the even neighbour.
            middle = threshold.unsqueeze(1) * (torch.arange(1, most + 1, dtype=torch.float64) - 0.5)
            is_even = torch.arange(1, most + 1) % 2 == 0
            levels = torch.where(is_even, middle.ceil() - 1, middle.floor())
        else:
            levels = threshold.floor().unsqueeze(1)
        decay = Fraction(round(float(neuron.decay) * 2**DECAY_DIGITS), 2**DECAY_DIGITS)
        current = sum(each.bound for each in inputs)
        bound = int(current * _growth(float(neuron.decay), self.steps)) + self.steps + int(threshold.max().ceil())
        self.new(path, 1.0, bound, x.shape, is_current=True)
        self.tensors[f"{path}.threshold"] = levels.to(torch.int32)
        is_soft = neuron.reset == "soft"
        if is_soft:
            self.tensors[f"{path}.reset"] = threshold.round().to(torch.int32)
        fraction = [decay.numerator, decay.denominator.bit_length() - 1]
        self.node(path, "neuron", inputs, x.shape, decay=fraction, soft=is_soft, levels=most, bound=bound,
                  largest_threshold=int(levels.max()))  # fmt: skip
        return self.new(path, 1.0, most, x.shape)


def _growth(decay: float, steps: int) -> float:
    """Return the largest membrane potential of a constant current, in currents."""
    return float(sum(decay**step for step in range(steps)))


def _read_layer(path: str, layer: Any) -> tuple[Tensor, Tensor, dict[str, list[int]]]:
    """Return weights ``[outputs, inputs, height, width]``, biases and the window of a layer."""
    kind = type(layer)
    if kind not in (nn.Conv2d, nn.Linear) and not isinstance(layer, SpikeConv2d):
        raise _unsupported(path, f"is a {kind.__name__}")
    weight = layer.weight.detach().double()
    bias = torch.zeros(len(weight), dtype=torch.float64) if layer.bias is None else layer.bias.detach().double()
    if kind is nn.Linear:
        return weight[..., None, None], bias, {"size": [1, 1], "stride": [1, 1], "padding": [0, 0]}
    if layer.groups != 1 or _pair(layer.dilation) != [1, 1]:
        raise _unsupported(path, "has groups or a dilation")
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        raise _unsupported(path, "pads with something other than a number of zeros")
    window = {"size": layer.kernel_size, "stride": layer.stride, "padding": layer.padding}
    return weight, bias, {name: _pair(value) for name, value in window.items()}


def _pair(value: Any) -> list[int]:
    return [int(value)] * 2 if isinstance(value, int) else [int(each) for each in value]


def _shape(sides: tuple[int, ...], window: dict[str, list[int]]) -> tuple[int, ...]:
    each = zip(sides, window["size"], window["stride"], window["padding"], strict=True)
    return tuple((side + 2 * padding - size) // stride + 1 for side, size, stride, padding in each)


def pack(integers: Tensor) -> Tensor:
    """Return weights of 4 bits ``[outputs, inputs, ...]`` as bytes, two neighbours along the inputs in one."""
    nibbles = integers.to(torch.int16) & 15
    if nibbles.shape[1] % 2:
        nibbles = torch.cat([nibbles, torch.zeros_like(nibbles[:, :1])], 1)
    return (nibbles[:, ::2] | nibbles[:, 1::2] << 4).to(torch.uint8)
