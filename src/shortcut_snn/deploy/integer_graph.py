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
from torch.nn.modules.utils import _pair

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

BRANCH_DIGITS = 12  # binary digits after the point of currents that are summed, and of the logits
BRANCH_UNIT = 2.0**-BRANCH_DIGITS
LEAK_DIGITS = 8  # largest number of binary digits after the point that a leak gets
DECAY_DIGITS, MULTIPLIER_DIGITS, EVENT_GAIN = 15, 20, 16
"""A decay is a fraction of ``2 ** 15``. Multipliers have 20 bits. Counts of events are multiplied by 16, as is their
mean, which is small."""
OUTER_BITS = 8
"""Bits of the weights of the first convolution, of the readout, and of convolutions of currents (MS blocks), which few
bits harm most."""


def integer_graph(
    network: nn.Module, spec: NetworkSpec, bits: int, means: Mapping[str, Tensor] | None = None
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the JSON object and the tensors of the integer form of a folded network.

    Rounding changes the sum of a channel's weights, and so the current of an average input: with ``means`` the bias
    takes that back.
    """
    builder = _Builder(spec, bits, means or {})
    if reason := why_no_integer_form(network):
        raise ValueError(f"{reason}: export to onnx")
    features = builder.vgg(network) if isinstance(network, SpikingVGG) else builder.resnet(network)
    assert isinstance(network, SpikingResNet | SpikingVGG)
    if network.readout != "mean":
        raise _unsupported("classifier", "returns logits of every step, not their mean")
    total = _Value(
        "total", features.unit / spec.time_steps, features.bound * spec.time_steps, features.shape, is_wide=True
    )
    builder.conv("classifier", network.classifier, total)
    readout = {**builder.nodes.pop(), "inputs": [features.name]}
    about = {
        **spec.to_dict(),
        "integer_format": 1,
        "bits": bits,
        "time_steps": spec.time_steps,
        "static": spec.inputs.kind == "static",
        "input": list(spec.input_shape),
        "gain": builder.gain,
        "nodes": builder.nodes,
        "readout": readout,
        "logit_scale": BRANCH_UNIT,
    }
    return about, builder.tensors


def why_no_integer_form(network: nn.Module) -> str | None:
    """Return why a network, folded or not, has no integer form: its class or one of its neurons; None if it has one."""
    if type(network) not in (SpikingResNet, SpikingResNet19, SpikingVGG):
        return f"integer files hold ResNets and VGGs, not {type(network).__name__}"
    for path, layer in spiking_layers(network).items():
        neuron: Any = layer if isinstance(layer, Neuron) else layer.neuron
        if not (is_lif(neuron) or type(neuron) is ILIF):
            kinds = f"{type(neuron).__name__}, not LIF, IF, PLIF or ILIF"
            return f"{path} has neurons of {kinds}, which integer files do not represent"
    return None


def _check_type(path: str, layer: nn.Module, *types: type[nn.Module]) -> None:
    """Refuse a layer of an unexpected class, which may compute something else."""
    if type(layer) not in types:
        raise _unsupported(path, f"is a {type(layer).__name__}")


def _unsupported(path: str, reason: str) -> ValueError:
    return ValueError(f"{path} {reason}, which integer files do not represent: export to onnx")


@dataclass(frozen=True)
class _Value:
    """An output of a layer: its unit, a scalar or one number per channel, and the largest absolute value.

    Counts of spikes have 16 bits. Wide values, which are currents or sums over time, have 32.
    """

    name: str
    unit: Any
    bound: int
    shape: tuple[int, ...]
    is_wide: bool = False
    is_constant: bool = False

    def __post_init__(self) -> None:
        """Check that the bound fits."""
        needed, width = self.bound.bit_length() + 1, 32 if self.is_wide else 16
        if needed > width:
            problem = f"{self.name} may need {needed} bits for its values, but integer files have {width}"
            raise ValueError(f"{problem}: use a smaller network, fewer steps or fewer bits")


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
        self.image = _Value("input", 1 / (one * std), bound, spec.input_shape[-3:], is_constant=is_static)

    def node(
        self, name: str, op: str, inputs: list[_Value], unit: Any, largest: int, shape: tuple[int, ...],
        is_wide: bool = False, **more: Any,
    ) -> _Value:  # fmt: skip
        """Add a node and return its value."""
        # Only neurons turn constant inputs into something that changes from step to step.
        once = op != "neuron" and all(x.is_constant for x in inputs)
        names = [x.name for x in inputs]
        self.nodes.append({"name": name, "op": op, "inputs": names, "shape": list(shape), "once": once, **more})
        return _Value(name, unit, largest, shape, is_wide, once)

    def resnet(self, network: Any) -> _Value:
        _check_type("stem", network.stem, Stem, MembraneStem)
        stem = network.stem
        if network.last_spike is None:
            x = self.spiking("stem.conv", stem.conv, "stem.spike", stem.spike, self.image)
        else:
            x = self.conv("stem.conv", stem.conv, self.image)
        x = self.pool("stem.pool", stem.pool, x)
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
                x = self.pool(f"{path}.pool", layer.pool, x)
                x = self.spiking(f"{path}.conv", layer.conv, f"{path}.spike", layer.spike, x)
        return self.mean(x)

    def block(self, path: str, block: PlainBlock, x: _Value) -> _Value:
        """Add a plain, basic or SEW block."""
        hidden = self.spiking(f"{path}.conv1", block.conv1, f"{path}.spike1", block.spike1, x)
        project: Any = getattr(block, "project", nn.Identity())
        _check_type(f"{path}.project", project, nn.Identity, Projection, SpikingProjection)
        if isinstance(block, BasicBlock):
            current = self.conv(f"{path}.conv2", block.conv2, hidden)
            if isinstance(project, nn.Identity):
                skip = self.node(f"{path}.project", "shift", [x], BRANCH_UNIT, x.bound << BRANCH_DIGITS, x.shape,
                                 is_wide=True, shift=BRANCH_DIGITS)  # fmt: skip
            else:
                skip = self.conv(f"{path}.project.conv", project.conv, x)
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
        current = self.conv(f"{path}.conv2", block.conv2, spikes)
        project: Any = block.project
        _check_type(f"{path}.project", project, nn.Identity, Projection)
        if not isinstance(project, nn.Identity):
            x = self.conv(f"{path}.project.conv", project.conv, x)
        return self.add(path, current, x)

    def add(self, path: str, a: _Value, b: _Value) -> _Value:
        return self.node(path, "add", [a, b], a.unit, a.bound + b.bound, a.shape, a.is_wide)

    def mean(self, x: _Value) -> _Value:
        """Add the sum over all pixels."""
        channels, rows, columns = x.shape
        pixels = rows * columns
        return self.node("features", "sum", [x], x.unit / pixels, x.bound * pixels, (channels, 1, 1))

    def pool(self, path: str, pool: Any, x: _Value) -> _Value:
        if isinstance(pool, nn.Identity):
            return x
        window = _window(pool)
        shape = _shape(x.shape[0], x, window, pool.ceil_mode)
        if isinstance(pool, nn.MaxPool2d) and pool.dilation == 1:
            return self.node(path, "maxpool", [x], x.unit, x.bound, shape, x.is_wide, **window, up=pool.ceil_mode)
        if not isinstance(pool, nn.AvgPool2d) or list(window.values()) != [[2, 2], [2, 2], [0, 0]]:
            raise _unsupported(path, f"is a {type(pool).__name__} other than the mean of 2 x 2 pixels")
        return self.node(path, "sumpool", [x], x.unit / 4, 4 * x.bound, shape, **window)

    def spiking(self, path: str, layer: Any, neuron_path: str, neuron: Any, x: _Value) -> _Value:
        """Add a convolution or linear layer and the neuron that it alone feeds."""
        _check_type(neuron_path, neuron, CurrentNeuron)
        return self.neuron(neuron_path, neuron, [self.conv(path, layer, x, neuron=neuron.neuron)])

    def conv(self, path: str, layer: Any, x: _Value, neuron: Any = None) -> _Value:
        """Add a convolution or linear layer, whose output is the current of a neuron or else of a branch."""
        weight, bias, window = _read_layer(path, layer)
        if x is self.image:
            bias = bias + (weight * self.input_rest.view(-1, 1, 1)).sum((1, 2, 3))
        input_unit = torch.as_tensor(x.unit, dtype=torch.float64).view(-1, 1, 1)
        weight = weight * input_unit
        # The weights of a channel may be nearly 0: its multiplier, or its bias and threshold, must fit all the same.
        unit: Any = BRANCH_UNIT
        smallest: Any = unit * 2.0**-MULTIPLIER_DIGITS
        if neuron is not None:
            most = bias.abs() * self.steps + float(neuron.threshold) * getattr(neuron, "max_spikes", 1)
            smallest = most * 2.0 ** (LEAK_DIGITS - 29)
        is_outer = x is self.image or x.is_wide
        bits = max(self.bits, OUTER_BITS) if is_outer else self.bits
        integers, scale = quantise(weight, bits, smallest)
        if path in self.means:
            errors = (weight - integers * scale.view(-1, 1, 1, 1)) / input_unit
            bias = bias + errors.sum((2, 3)) @ self.means[path]
        sums = integers.abs().sum((1, 2, 3)) * x.bound
        shift, rescale = 0, None
        if neuron is not None:
            decay = float(neuron.decay)
            # Without a leak the sums are exact as they are.
            digits = range(0 if decay in (0.0, 1.0) else LEAK_DIGITS, -1, -1)
            fits = [n for n in digits if float((sums * 2**n).max()) * _growth(decay, self.steps) < 2**30]
            shift = fits[0] if fits else 0
            unit, bound = scale / 2**shift, sums * 2**shift
        else:
            rescale = int(MULTIPLIER_DIGITS - torch.log2(scale.max() / unit).ceil())
            # Sums of currents and those of the readout have 64 bits, of which a multiplier needs 20.
            if rescale < 1 or float(sums.max()) >= 2 ** (42 if x.is_wide else 31):
                raise _unsupported(path, "has sums that are too large")
            multiplier = (scale / unit * 2.0**rescale).round()
            bound = (sums * multiplier / 2.0**rescale).ceil() + 1
            self.tensors[f"{path}.multiplier"] = multiplier.to(torch.int32)
        rounded = (bias / unit).round()
        largest = int((bound + rounded.abs()).max())
        self.tensors[f"{path}.weight"] = pack(integers) if bits <= 4 else integers.to(torch.int8)
        self.tensors[f"{path}.bias"] = rounded.to(torch.int32)
        return self.node(
            path, "conv", [x], unit, largest, _shape(len(weight), x, window), is_wide=True, **window, bits=bits,
            shift=shift, rescale=rescale, sum_bound=int(sums.max()), bound=largest,
        )  # fmt: skip

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
        membrane = _Value(path, 1.0, bound, x.shape, is_wide=True)
        self.tensors[f"{path}.threshold"] = levels.to(torch.int32)
        is_soft = neuron.reset == "soft"
        if is_soft:
            self.tensors[f"{path}.reset"] = threshold.round().to(torch.int32)
        fraction = [decay.numerator, decay.denominator.bit_length() - 1]
        return self.node(path, "neuron", inputs, 1.0, most, x.shape, decay=fraction, soft=is_soft, levels=most,
                         bound=membrane.bound, largest_threshold=int(levels.max()))  # fmt: skip


def _growth(decay: float, steps: int) -> float:
    """Return the largest membrane potential of a constant current, in currents."""
    return float(sum(decay**step for step in range(steps)))


def _read_layer(path: str, layer: Any) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Return weights ``[outputs, inputs, height, width]``, biases and the window of a layer."""
    kind = type(layer)
    if kind not in (nn.Conv2d, nn.Linear) and not isinstance(layer, SpikeConv2d):
        raise _unsupported(path, f"is a {kind.__name__}")
    weight = layer.weight.detach().double()
    bias = torch.zeros(len(weight), dtype=torch.float64) if layer.bias is None else layer.bias.detach().double()
    if kind is nn.Linear:
        return weight[..., None, None], bias, {"size": [1, 1], "stride": [1, 1], "padding": [0, 0]}
    if layer.groups != 1 or _pair(layer.dilation) != (1, 1):
        raise _unsupported(path, "has groups or a dilation")
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        raise _unsupported(path, "pads with something other than a number of zeros")
    return weight, bias, _window(layer)


def _window(layer: Any) -> dict[str, Any]:
    sides = {"size": layer.kernel_size, "stride": layer.stride, "padding": layer.padding}
    return {name: list(_pair(value)) for name, value in sides.items()}


def _shape(channels: int, x: _Value, window: dict[str, Any], rounds_up: bool = False) -> tuple[int, ...]:
    """Return the shape of what a convolution or pooling makes of a value."""
    sides = zip(x.shape[1:], window["size"], window["stride"], window["padding"], strict=True)
    over = [(n + 2 * pad - size + (step - 1 if rounds_up else 0)) // step + 1 for n, size, step, pad in sides]
    return (channels, *over)


def pack(integers: Tensor) -> Tensor:
    """Return weights of 4 bits ``[outputs, inputs, ...]`` as bytes, two neighbours along the inputs in one."""
    nibbles = integers.to(torch.int16) & 15
    if nibbles.shape[1] % 2:
        nibbles = torch.cat([nibbles, torch.zeros_like(nibbles[:, :1])], 1)
    return (nibbles[:, ::2] | nibbles[:, 1::2] << 4).to(torch.uint8)
