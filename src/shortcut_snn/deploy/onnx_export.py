"""ONNX graphs: written by torch's exporter, run by onnxruntime; convolutions of spikes may have int8 weights."""

import copy
import json
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import components
from .._utils.module_state import hooked
from ..introspection.neurons import spiking_layers
from ..neurons.backend import is_exported
from ..neurons.current_neuron import CurrentNeuron
from .exporter import Exporter, Logits, require
from .rounding import quantise
from .spec import NetworkSpec
from .torch_export import Graph, graph_logits, make_graph

SPAN, STEPS = 4, 126
"""A current is clamped to this many thresholds up and down and rounded to this many steps. With an even number of steps
no rounded current equals the threshold."""


class Int8Conv2d(nn.Module):
    """A convolution of integers from 0 to 255: int8 weights, one scale per output channel, sums in int32.

    The current that it returns is clamped to ``span`` thresholds and rounded to 8 bits.
    """

    weight: Tensor
    bias: Tensor
    scale: Tensor

    def __init__(self, conv: nn.Conv2d, threshold: float, span: int = SPAN) -> None:
        super().__init__()
        weight = conv.weight.detach()
        bias = torch.zeros(len(weight)) if conv.bias is None else conv.bias.detach()
        # The weights of a channel may be nearly 0. Its scale must not be, or its bias would exceed 32 bits.
        smallest_scale = (bias.abs() / 2**30).clamp_min(torch.finfo(weight.dtype).tiny)
        integers, scale = quantise(weight, 8, smallest_scale)
        self.register_buffer("weight", integers.to(torch.int8))
        self.register_buffer("bias", (bias / scale).round().to(torch.int32))
        self.register_buffer("scale", scale)
        self.step = threshold / (STEPS / span)
        options = ("stride", "padding", "dilation", "groups")
        self.options: dict[str, Any] = {name: getattr(conv, name) for name in options}

    def forward(self, x: Tensor) -> Tensor:
        """Map floats ``[T * N, C, H, W]`` with integer values to currents."""
        if is_exported():
            return self._as_onnx_operators(x)
        # Sums of integers below 2 ** 24 are exact in float32 too.
        current = F.conv2d(x, self.weight.float(), self.bias.float(), **self.options)
        steps = current * (self.scale / self.step).view(-1, 1, 1)
        return steps.round().clamp(-128, 127) * self.step

    def _as_onnx_operators(self, x: Tensor) -> Tensor:
        """Compute the same with QuantizeLinear and DequantizeLinear around a Conv, which runtimes fuse into one."""
        import torch.ao.quantization.fx._decomposed  # registers the operators

        ops, uint8 = torch.ops.quantized_decomposed, (0, 255, torch.uint8)
        x = ops.dequantize_per_tensor(ops.quantize_per_tensor(x, 1.0, 0, *uint8), 1.0, 0, *uint8)
        weight = ops.dequantize_per_channel(self.weight, self.scale, None, 0, -128, 127, torch.int8)
        bias = ops.dequantize_per_channel(self.bias, self.scale, None, 0, -(2**31), 2**31 - 1, torch.int32)
        current = ops.quantize_per_tensor(F.conv2d(x, weight, bias, **self.options), self.step, 128, *uint8)
        rounded: Tensor = ops.dequantize_per_tensor(current, self.step, 128, *uint8)
        return rounded


@torch.no_grad()
def to_int8(network: nn.Module, example: Tensor) -> nn.Module:
    """Return a copy whose convolutions of spikes, or of other small integers, are :class:`Int8Conv2d`.

    The first convolution, which takes images, and the linear layers, which take means, stay in float32.
    """
    network = copy.deepcopy(network)
    convolutions = {path: module for path, module in network.named_modules() if isinstance(module, nn.Conv2d)}
    takes_integers: dict[str, bool] = {}
    neuron_of: dict[str, nn.Module] = {}

    def before_call(path: str, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        if isinstance(module, CurrentNeuron):
            # The convolutions that ran since the last neurons make this one's current.
            for conv in takes_integers.keys() - neuron_of.keys():
                neuron_of[conv] = module.neuron
        else:
            x = args[0]
            is_uint8 = bool(((x == x.round()) & (x >= 0) & (x <= 255)).all())
            takes_integers[path] = takes_integers.get(path, True) and is_uint8

    with hooked({**convolutions, **spiking_layers(network)}, pre=before_call):
        network(example)
    # A convolution with no neurons after it is quantised like those before the last ones.
    last = list(spiking_layers(network).values())[-1].neuron
    integer_paths = [
        path for path, takes in list(takes_integers.items())[1:] if takes and convolutions[path].padding_mode == "zeros"
    ]
    if not integer_paths:
        raise ValueError("int8: no convolution of this network has spikes as input; export it without int8")
    for path in integer_paths:
        neuron: Any = neuron_of.get(path, last)
        # A neuron that fires several spikes in a step needs a current of as many thresholds.
        span = max(SPAN, getattr(neuron, "max_spikes", 1))
        network.set_submodule(path, Int8Conv2d(convolutions[path], float(neuron.threshold), span))
    return network


@components.exporter("onnx")
@dataclass(frozen=True)
class ONNX(Exporter):
    """An ONNX graph, for onnxruntime and others.

    Args:
        streaming: write one time step, whose membrane potentials are inputs and outputs.
        int8: store the weights of convolutions that take spikes in int8 (see :class:`Int8Conv2d`): a quarter of
            the file, faster, with coarser weights and currents.
    """

    streaming: bool = False
    int8: bool = False

    @property
    def file(self) -> str:
        """Name of the file."""
        return "network-step.onnx" if self.streaming else "network.onnx"

    def rounded(self, network: nn.Module, spec: NetworkSpec, example: Tensor) -> nn.Module:
        """Return a network with int8 convolutions, if ``int8`` is set."""
        return to_int8(network, example) if self.int8 else network

    def export(self, network: nn.Module, spec: NetworkSpec, path: Path) -> Logits:
        """Write the file and return a function that runs it; see :meth:`.Exporter.export`."""
        write_onnx(make_graph(network, spec, self.streaming), spec, path)
        return onnx_logits(path, spec)


def write_onnx(graph: Graph, spec: NetworkSpec, path: Path) -> None:
    """Write a graph as an ONNX file."""
    require("onnx", "ONNX export")
    require("onnxscript", "ONNX export")
    with warnings.catch_warnings():
        # torch's exporter warns about its own future.
        warnings.simplefilter("ignore")
        exported = torch.onnx.export(
            graph.program, dynamo=True, input_names=list(graph.inputs), output_names=list(graph.outputs),
            external_data=False, verbose=False,
        )  # fmt: skip
    assert exported is not None
    model = _fuse_thresholds(exported.model_proto)
    model.producer_name = "shortcut-snn"
    _name_batch_axis(model.graph)
    # Torch notes the source line of every node, with paths of this machine; the notes are as long as the weights.
    for node in model.graph.node:
        del node.metadata_props[:]
    del model.metadata_props[:]
    model.metadata_props.add(key="shortcut_snn", value=json.dumps(spec.to_dict()))
    path.write_bytes(model.SerializeToString())


def _fuse_thresholds(model: Any) -> Any:
    """Replace ``v - threshold > 0`` by ``v > threshold``: the same spikes in one operator less."""
    from onnxscript.rewriter import pattern, rewrite

    def is_zero(context: Any, zero: Any, **_: Any) -> bool:
        return zero.const_value is not None and not zero.const_value.numpy().any()

    rule = pattern.RewriteRule(
        lambda op, membrane, threshold, zero: op.Greater(op.Sub(membrane, threshold), zero),
        lambda op, membrane, threshold, zero: op.Greater(membrane, threshold),
        is_zero,
    )
    return rewrite(model, pattern_rewrite_rules=[rule])


def _name_batch_axis(graph: Any) -> None:
    """Rename the open axis to ``batch``; torch's exporter calls it ``s34`` or the like."""
    symbol = graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for value in (*graph.input, *graph.output, *graph.value_info):
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param:
                axis.dim_param = re.sub(rf"\b{re.escape(symbol)}\b", "batch", axis.dim_param)


def onnx_logits(path: Path, spec: NetworkSpec) -> Logits:
    """Return a function that runs a trusted ONNX file in onnxruntime on the CPU."""
    onnxruntime = require("onnxruntime", "ONNX export")
    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    first, *potentials = session.get_inputs()

    def run(images: Tensor, state: Sequence[Tensor]) -> Sequence[Tensor]:
        feeds = {first.name: images.numpy()}
        feeds |= {value.name: x.numpy() for value, x in zip(potentials, state, strict=True)}
        return [torch.from_numpy(output) for output in session.run(None, feeds)]

    return graph_logits(run, [value.shape[1:] for value in potentials], spec)
