"""Networks as ONNX graphs, and these run by onnxruntime."""

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
from .describe import Description
from .extra import need
from .program import Program, input_dtype, make_program
from .runtime import Runtime, State, by_steps

ABOUT = "shortcut_snn"
"""Under this key a file says what it is."""
SCOPES = "pkg.torch.onnx.name_scopes"
"""Under this key torch's exporter notes in which module a node arose."""


@components.exporter("onnx")
@dataclass(frozen=True)
class ONNX:
    """An ONNX graph.

    Args:
        int8: convolutions of spikes in 8-bit whole numbers (see :class:`~.int8.Int8Conv2d`): faster, a quarter of the
            file, and coarser weights and currents.
    """

    int8: bool = False

    file: ClassVar[str] = "network.onnx"
    streamed: ClassVar[str | None] = "network-step.onnx"
    says: ClassVar[str] = "graph for onnxruntime and others"

    def make(self, network: nn.Module, about: Description, path: Path, streaming: bool) -> Runtime:
        """Write it; see :class:`~.runtime.Exporter`."""
        write_onnx(make_program(network, about, streaming), about, path)
        return OnnxRuntime(path, about, streaming)


def write_onnx(program: Program, about: Description, path: Path) -> None:
    """Write a program as an ONNX file, whole or not at all.

    Raises:
        OSError: onnx or onnxscript is not installed.
    """
    need("onnx", "ONNX export")
    need("onnxscript", "ONNX export")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's exporter, about its own future
        made = torch.onnx.export(
            program.exported,
            dynamo=True,
            input_names=list(program.inputs),
            output_names=list(program.outputs),
            external_data=False,
            verbose=False,
        )
    assert made is not None
    model = _fires_in_one(made.model_proto)
    model.producer_name = "shortcut-snn"
    _name_batch(model.graph)
    # Where in whose source a node comes from is as long as the weights.
    for node in model.graph.node:
        scopes = [each for each in node.metadata_props if each.key == SCOPES]
        del node.metadata_props[:]
        node.metadata_props.extend(scopes)
    del model.metadata_props[:]
    model.metadata_props.add(key=ABOUT, value=json.dumps(about.to_dict()))
    with replacing(path) as temporary:
        temporary.write_bytes(model.SerializeToString())


def _fires_in_one(model: Any) -> Any:
    """Compare each membrane potential with its threshold, not their difference with 0: spikes are the same."""
    from onnxscript.rewriter import pattern, rewrite

    def is_zero(context: Any, zero: Any, **_: Any) -> bool:
        return zero.const_value is not None and not zero.const_value.numpy().any()

    rule = pattern.RewriteRule(
        lambda op, membrane, threshold, zero: op.Greater(op.Sub(membrane, threshold), zero),
        lambda op, membrane, threshold, zero: op.Greater(membrane, threshold),
        is_zero,
    )
    return rewrite(model, pattern_rewrite_rules=[rule])


def _name_batch(graph: Any) -> None:
    """Call the open axis ``batch``, for which torch's exporter finds a name like ``s34``."""
    found = graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for value in (*graph.input, *graph.output, *graph.value_info):
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param:
                axis.dim_param = re.sub(rf"\b{re.escape(found)}\b", "batch", axis.dim_param)


class OnnxRuntime:
    """An ONNX file in onnxruntime.

    Args:
        path: of a file that was just written: nothing is checked, and onnxruntime does as the file says.
        about: what it is.
        streaming: whether it is of a single time step.
    """

    def __init__(self, path: Path, about: Description, streaming: bool) -> None:
        self.path, self.about, self.streaming = path, about, streaming
        self.session = _session(path.read_bytes())

    def _call(self, session: Any, feeds: dict[str, Tensor]) -> list[Tensor]:
        return [torch.from_numpy(out) for out in session.run(None, {name: x.numpy() for name, x in feeds.items()})]

    def whole(self, images: Tensor) -> Tensor:
        """Return logits; see :class:`~.runtime.Runtime`."""
        if self.streaming:
            return by_steps(self, images, self.about.time_steps)
        return self._call(self.session, {"images": images.to(input_dtype(self.about))})[0]

    def step(self, frame: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Return a step's logits and the membrane potentials; see :class:`~.runtime.Runtime`."""
        if not self.streaming:
            raise ValueError("this ONNX file runs whole sequences; export it with --streaming to run it step by step")
        logits, *after = self._call(self.session, self._feeds(frame, state))
        return logits, after

    def _feeds(self, frame: Tensor, state: State | None) -> dict[str, Tensor]:
        inputs = self.session.get_inputs()[1:]
        if state is None:
            state = [torch.zeros(len(frame), *each.shape[1:]) for each in inputs]
        names = (each.name for each in inputs)
        return {"frame": frame.to(input_dtype(self.about)), **dict(zip(names, state, strict=True))}

    def spikes(self, images: Tensor) -> dict[str, Tensor]:
        """Return every layer's spikes; see :class:`~.runtime.Runtime`."""
        model = need("onnx", "ONNX export").load(self.path)
        values = {}
        for node in model.graph.node:
            scopes = [json.loads(each.value.replace("'", '"')) for each in node.metadata_props if each.key == SCOPES]
            # The last operation of a layer of neurons stacks its spikes over time.
            if scopes and scopes[0][-1].startswith("stack"):
                values[scopes[0][-2]] = node.output[0]
        del model.graph.output[:]
        for value in values.values():
            model.graph.output.add(name=value)
        session = _session(model.SerializeToString())
        if not self.streaming:
            found = [self._call(session, {"images": images.to(input_dtype(self.about))})]
        else:
            found, state = [], None
            for t in range(self.about.time_steps):
                frame = images[:, t] if images.dim() == 5 else images
                found.append(self._call(session, self._feeds(frame, state)))
                _, state = self.step(frame, state)
        names = (name.partition("network.")[2] or name for name in values)
        return {name: torch.cat(steps) for name, steps in zip(names, zip(*found, strict=True), strict=True)}


def _session(content: bytes) -> Any:
    onnxruntime = need("onnxruntime", "ONNX export")
    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # As many threads as torch uses.
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
