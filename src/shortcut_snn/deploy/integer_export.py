"""The export format ``integer``: one file of integers, which NumPy, torch and C compute alike, bit for bit."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Interval
from torch import Tensor, nn
from torch.nn import functional as F

from .. import components
from .._utils.module_state import hooked
from ..introspection.neurons import spiking_layers
from . import integer_reference as reference
from .exporter import Exporter, Logits
from .integer_graph import integer_graph
from .safetensors_files import read_network, save_tensors
from .spec import NetworkSpec


class IntegerNetwork(nn.Module):
    """The network of an integer file in torch, equal to the interpreter, bit for bit. It takes normalised inputs."""

    def __init__(self, about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.about, self.tensors = dict(about), dict(tensors)
        self.interpreter = _TorchInterpreter(self.about, self.tensors)

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised images ``[N, C, H, W]`` or frames ``[T, N, C, H, W]`` to logits ``[N, classes]``."""
        logits: Tensor = self.run(self.restored(x))[0] * self.about["logit_scale"]
        return logits

    def restored(self, x: Tensor) -> Tensor:
        """Return the bytes, or counts of at most 255, of normalised images or frames; the batch axis comes first."""
        is_static, data = self.about["static"], self.about["data"]
        mean, std = (torch.tensor(data[name]).view(-1, 1, 1) for name in ("mean", "std"))
        raw = (x if is_static else x.transpose(0, 1)) * std + mean
        return (raw * (255 if is_static else 1)).round().clamp(0, 255).to(torch.uint8)

    @torch.no_grad()
    def run(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return logits, int64 ``[N, classes]``, and spikes ``[T, N, C, H, W]`` by the names of the layers."""
        return self.interpreter.run(images)


class _TorchInterpreter(reference.Interpreter):
    """The operations that torch computes faster.

    Floating point is exact where no sum can be larger: up to ``2 ** 24`` in float32, up to ``2 ** 53`` in float64.
    """

    _stack = staticmethod(torch.stack)

    def __init__(self, about: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        super().__init__(about, tensors)
        for node in (*about["nodes"], about["readout"]):
            if node["op"] == "conv":
                name, bound = node["name"], node["sum_bound"]
                assert bound < 2**53, f"{name}: its sums are not exact in float64"
                dtype = torch.float32 if bound < 2**24 else torch.float64
                self.weights[name] = torch.from_numpy(self.weights[name]).to(dtype)

    def _integers(self, x: Tensor) -> Tensor:
        return x.long()

    def _sums(self, node: dict[str, Any], x: Tensor) -> Tensor:
        weight: Tensor = self.weights[node["name"]]
        return F.conv2d(x.to(weight.dtype), weight, None, node["stride"], node["padding"]).long()

    def _maxpool(self, node: dict[str, Any], x: Tensor) -> Tensor:
        # Edges that the last windows reach beyond the image, where it rounds up.
        return F.max_pool2d(x.double(), node["size"], node["stride"], node["padding"], ceil_mode=node["up"]).long()

    def _sumpool(self, node: dict[str, Any], x: Tensor) -> Tensor:
        _, rows, columns = node["shape"]
        return (F.avg_pool2d(x.double(), 2, ceil_mode=True) * 4).long()[..., :rows, :columns]


MAX_BITS = 8
VECTORS = 4  # number of test vectors in a file


@components.exporter("integer")
@dataclass(frozen=True)
class Integer(Exporter):
    """Integer weights, thresholds and membrane potentials, with a NumPy interpreter and test vectors.

    Args:
        bits: of the weights. The first convolution, the readout and projections of MS blocks have 8.
    """

    bits: Annotated[int, Interval(ge=2, le=MAX_BITS)] = 8

    file = "network-integer.safetensors"

    def rounded(self, network: nn.Module, spec: NetworkSpec, example: Tensor) -> IntegerNetwork:
        """Return the integer network, with its firing rates and test vectors; refuse one whose layers fall silent."""
        means, before = measure_activity(network, example)

        def rounded_to(bits: int) -> tuple[IntegerNetwork, dict[str, float], list[str]]:
            """Return the integer network, its firing rates, and the layers that it silences."""
            integers = IntegerNetwork(*integer_graph(network, spec, bits, means))
            spikes = integers.run(integers.restored(example))[1]
            after = {name: counts.double().mean().item() for name, counts in spikes.items()}
            return integers, after, [name for name in before if before[name] > 0 and not after[name]]

        integers, after, silent = rounded_to(self.bits)
        if silent:
            enough = next((bits for bits in range(self.bits + 1, MAX_BITS + 1) if not rounded_to(bits)[2]), None)
            remedy = f"{MAX_BITS} bits or fewer: train with method.weight_bits={MAX_BITS}, or export to onnx"
            remedy = f"{self.bits} bits: use --bits {enough}" if enough else remedy
            raise ValueError(f"{silent[0]} fires with float weights, but never with {remedy}")
        integers.about["firing_rates"] = {name: [before[name], after[name]] for name in before}
        images = integers.restored(example)[:VECTORS]
        logits, spikes = integers.run(images)
        sums = torch.from_numpy(reference.checksums({name: counts.numpy() for name, counts in spikes.items()}))
        integers.tensors |= {"vectors.input": images, "vectors.logits": logits, "vectors.spikes": sums}
        return integers

    def export(self, network: nn.Module, spec: NetworkSpec, path: Path) -> Logits:
        """Write the file and return a function that runs it; see :meth:`.Exporter.export`."""
        assert isinstance(network, IntegerNetwork)
        save_tensors(network.tensors, path, network.about)
        check_vectors(path)
        return integer_logits(path)

    def report(self, path: Path) -> Iterator[str]:
        """Yield the firing rates before and after, and what Speck refuses."""
        # C code has the integer file next to it.
        about, _ = reference.read(path.with_name(Integer.file))
        yield "spikes per neuron and step, before and after:"
        for name, (before, after) in about["firing_rates"].items():
            yield f"  {name:24} {before:.4f} {after:.4f}"
        refusals = list(speck_refusals(about))
        more = f" (and {len(refusals) - 3} more)" if len(refusals) > 3 else ""
        yield f"Speck: {'; '.join(refusals[:3]) + more if refusals else 'within its limits'}"


@torch.no_grad()
def measure_activity(network: nn.Module, example: Tensor) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Return the mean of each input channel of convolutions and linear layers, and the firing rates of neurons."""
    layers = {path: layer for path, layer in network.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)}
    inputs: dict[str, Tensor] = {}
    rates: dict[str, float] = {}

    def before_layer(path: str, layer: nn.Module, args: tuple[Tensor, ...]) -> None:
        x = args[0].double()
        inputs[path] = x.flatten(0, -2).mean(0) if isinstance(layer, nn.Linear) else x.flatten(0, -4).mean((0, 2, 3))

    def after_neurons(path: str, layer: nn.Module, args: Any, spikes: Tensor) -> None:
        rates[path] = spikes.double().mean().item()

    with hooked(layers, pre=before_layer), hooked(spiking_layers(network), after_neurons):
        network(example)
    return inputs, rates


def check_vectors(path: Path) -> None:
    """Check that NumPy computes the logits and the spikes of each layer and step that torch computed."""
    about, tensors = reference.read(path)
    logits, spikes = reference.run(about, tensors, tensors["vectors.input"])
    if not np.array_equal(logits, tensors["vectors.logits"]):
        raise ValueError(f"{path.name}: NumPy and torch compute different logits; please report this as a bug")
    differs = (reference.checksums(spikes) != tensors["vectors.spikes"]).any((0, 1))
    if wrong := [name for name, is_wrong in zip(spikes, differs, strict=True) if is_wrong]:
        raise ValueError(f"{wrong[0]}: NumPy and torch compute different spikes; please report this as a bug")


def integer_logits(path: Path) -> Logits:
    """Return a function that runs an integer file in torch."""
    state, about = read_network(path)
    network = IntegerNetwork(about, state)
    return lambda images: network.run(images.clamp(0, 255).to(torch.uint8))[0] * about["logit_scale"]


# https://sinabs.readthedocs.io/ describes the chip: cores, sizes and the two bit widths.
_SPECK_CORES, _SPECK_CHANNELS, _SPECK_KERNEL, _SPECK_PADDING = 9, 1024, 16, 7
_SPECK_INPUT, _SPECK_OUTPUT, _SPECK_STATE_BITS = 128, 64, 16


def speck_refusals(about: Mapping[str, Any]) -> Iterator[str]:
    """Yield why SynSense's Speck cannot run the network of an integer file's JSON object, layer by layer."""
    nodes = [*about["nodes"], about["readout"]]
    shapes = {node["name"]: node["shape"] for node in nodes} | {"input": about["input"][-3:]}
    convolutions = [node["name"] for node in nodes if node["op"] == "conv"]
    for name in convolutions[_SPECK_CORES : _SPECK_CORES + 1]:
        yield f"{name} is layer {_SPECK_CORES + 1} of {len(convolutions)}, and there are {_SPECK_CORES} cores"
    for node in nodes:
        name, shape, source = node["name"], node["shape"], shapes[node["inputs"][0]]
        if node["op"] == "conv":
            if max(source[1:]) > _SPECK_INPUT:
                yield f"{name} takes {source[1]} x {source[2]} pixels, at most {_SPECK_INPUT} x {_SPECK_INPUT}"
            if max(shape[1:]) > _SPECK_OUTPUT:
                yield f"{name} returns {shape[1]} x {shape[2]} pixels, at most {_SPECK_OUTPUT} x {_SPECK_OUTPUT}"
            if max(source[0], shape[0]) > _SPECK_CHANNELS:
                yield f"{name} has {max(source[0], shape[0])} channels, at most {_SPECK_CHANNELS}"
            if max(node["size"]) > _SPECK_KERNEL or max(node["padding"]) > _SPECK_PADDING:
                yield f"{name} has kernel {node['size']} and padding {node['padding']}, at most 16 and 7"
            if not set(node["stride"]) <= {1, 2, 4, 8}:
                yield f"{name} has a stride of {node['stride']}, and 1, 2, 4 and 8 are possible"
            if node["rescale"] is not None and node is not about["readout"]:
                yield f"{name} multiplies its sums, to add them to those of another branch"
        elif node["op"] == "neuron":
            if (bits := node["largest_threshold"].bit_length() + 1) > _SPECK_STATE_BITS:
                yield f"{name} has a threshold of {bits} bits, and the state has {_SPECK_STATE_BITS}"
            if node["decay"] != [1, 0]:
                yield f"{name} leaks by a factor, not by a constant"
            if node["levels"] > 1:
                yield f"{name} fires up to {node['levels']} spikes in a step"
        elif node["op"] == "maxpool":
            yield f"{name} takes maxima, and sums are possible"
        elif node["op"] == "sum" and not (source[1] == source[2] and source[1] in (1, 2, 4)):
            yield f"{name} sums {source[1]} x {source[2]} pixels, and 1, 2 and 4 are possible"
