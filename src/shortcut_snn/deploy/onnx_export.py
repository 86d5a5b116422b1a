"""ONNX graphs: written by torch's exporter, run by onnxruntime."""

import json
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import components
from .exporter import Exporter, Logits, mean_over_steps, require
from .int8 import to_int8
from .spec import NetworkSpec
from .torch_export import Graph, input_dtype, make_graph

_SPEC_KEY = "shortcut_snn"


@components.exporter("onnx")
@dataclass(frozen=True)
class ONNX(Exporter):
    """An ONNX graph.

    Args:
        streaming: write one time step, whose membrane potentials are inputs and outputs.
        int8: store the weights of convolutions that take spikes in int8 (see :class:`~.int8.Int8Conv2d`): a quarter of
            the file, faster, with coarser weights and currents.
    """

    streaming: bool = False
    int8: bool = False

    summary = "graph for onnxruntime and others"

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
    model.metadata_props.add(key=_SPEC_KEY, value=json.dumps(spec.to_dict()))
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

    def run(images: Tensor, state: Sequence[Tensor] = ()) -> Sequence[Tensor]:
        feeds = {first.name: images.to(input_dtype(spec)).numpy()}
        feeds |= {value.name: x.numpy() for value, x in zip(potentials, state, strict=True)}
        return [torch.from_numpy(output) for output in session.run(None, feeds)]

    if potentials:
        return mean_over_steps(run, [value.shape[1:] for value in potentials], spec)
    return lambda images: run(images)[0]
