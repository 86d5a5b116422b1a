"""ONNX graphs: written by torch's exporter, run by onnxruntime."""

import json
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .. import components
from ..files import replacing
from .graph import Graph, input_dtype, make_graph
from .optional import require
from .runtime import FileRuntime, Runtime, State
from .spec import NetworkSpec

_SPEC_KEY = "shortcut_snn"


@components.exporter("onnx")
@dataclass(frozen=True)
class ONNX:
    """An ONNX graph.

    Args:
        int8: store the weights of convolutions that take spikes in int8 (see :class:`~.int8.Int8Conv2d`): a quarter of
            the file, faster, with coarser weights and currents.
    """

    int8: bool = False

    file: ClassVar[str] = "network.onnx"
    step_file: ClassVar[str | None] = "network-step.onnx"
    summary: ClassVar[str] = "graph for onnxruntime and others"

    def export(self, network: nn.Module, spec: NetworkSpec, path: Path, streaming: bool) -> Runtime:
        """Write the file; see :class:`~.runtime.Exporter`."""
        write_onnx(make_graph(network, spec, streaming), spec, path)
        return OnnxRuntime(path, spec, streaming)


def write_onnx(graph: Graph, spec: NetworkSpec, path: Path) -> None:
    """Write a graph as an ONNX file.

    Raises:
        OSError: onnx or onnxscript is not installed.
    """
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
    with replacing(path) as temporary:
        temporary.write_bytes(model.SerializeToString())


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


class OnnxRuntime(FileRuntime):
    """An ONNX file in onnxruntime.

    Args:
        path: a trusted file: onnxruntime executes what the file says.
        spec: the network's specification.
        streaming: whether the file runs a single time step.

    Raises:
        OSError: onnxruntime is not installed.
    """

    def __init__(self, path: Path, spec: NetworkSpec, streaming: bool) -> None:
        super().__init__(spec, streaming)
        onnxruntime = require("onnxruntime", "ONNX export")
        onnxruntime.disable_telemetry_events()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = torch.get_num_threads()
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(self, images: Tensor, state: State | None) -> list[Tensor]:
        """Return logits, and membrane potentials; see :class:`~.runtime.FileRuntime`."""
        first, *others = self.session.get_inputs()
        if state is None:
            state = [torch.zeros(len(images), *value.shape[1:]) for value in others]
        feeds = {first.name: images.to(input_dtype(self.spec)).numpy()}
        feeds |= {value.name: x.numpy() for value, x in zip(others, state, strict=True)}
        return [torch.from_numpy(output) for output in self.session.run(None, feeds)]
