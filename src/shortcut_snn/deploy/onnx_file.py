"""ONNX files: written by us, and read only if they are whole, ours and hold nothing but plain operators."""

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

import torch

from ..files import replacing
from .describe import Description, describe
from .extra import need
from .program import Program

ABOUT, DIGEST, STREAMING = "shortcut_snn", "shortcut_snn_sha256", "shortcut_snn_streaming"
OPERATORS = frozenset(
    {
        *("Add", "AveragePool", "Cast", "Concat", "Constant", "Conv", "Div", "Expand", "Flatten", "Gather", "Gemm"),
        *("GlobalAveragePool", "Greater", "Identity", "MatMul", "MaxPool", "Mul", "Neg", "ReduceMean", "Reshape"),
        *("Shape", "Sigmoid", "Slice", "Split", "Squeeze", "Sub", "Transpose", "Unsqueeze", "Where"),
    }
)
"""What our networks are made of; a file with another operator is not one of ours."""


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
    model = made.model_proto
    model.producer_name = "shortcut-snn"
    del model.metadata_props[:]
    streaming = len(program.inputs) > 1
    for key, value in ((ABOUT, json.dumps(about.to_dict())), (STREAMING, json.dumps(streaming))):
        model.metadata_props.add(key=key, value=value)
    model.metadata_props.add(key=DIGEST, value=_digest(model))
    with replacing(path) as temporary:
        temporary.write_bytes(model.SerializeToString())


def _digest(model: Any) -> str:
    """Return a hash of all of a model but the hash that it carries."""
    bare = type(model)()
    bare.CopyFrom(model)
    kept = [(each.key, each.value) for each in bare.metadata_props if each.key != DIGEST]
    del bare.metadata_props[:]
    for key, value in kept:
        bare.metadata_props.add(key=key, value=value)
    return hashlib.sha256(bare.SerializeToString(deterministic=True)).hexdigest()


def read_onnx(path: Path) -> tuple[Any, Description, bool]:
    """Return the model, what it is, and whether it runs single time steps.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: onnx is not installed.
        ValueError: the file is damaged, not ours, or holds what none of ours does.
    """
    onnx = need("onnx", "an ONNX file")
    if not path.is_file():
        raise FileNotFoundError(f"no network file {path}")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except Exception:  # protobuf's DecodeError, of which there is one for each of its implementations
        raise ValueError(f"{path} is not a whole ONNX file") from None
    said = {each.key: each.value for each in model.metadata_props}
    if not {ABOUT, STREAMING, DIGEST} <= said.keys():
        raise ValueError(f"{path} was not written by shortcut-snn; open it with onnxruntime")
    if said[DIGEST] != _digest(model):
        raise ValueError(f"{path} is damaged: its contents are not those that were written")
    if unknown := _unknown(model):
        raise ValueError(f"{path} was not written by shortcut-snn: it holds {unknown}")
    try:
        about, streaming = describe(_object(said[ABOUT])), json.loads(said[STREAMING])
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} does not say what network it holds: {error}") from None
    return model, about, streaming is True


def _object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("expected an object")
    return value


def _unknown(model: Any) -> str:
    """Name something that a file of ours never holds: it would run code or read files, or may crash a runtime."""
    if len(model.functions) or len(model.training_info):
        return "functions"
    if any(tensor.external_data or tensor.data_location for tensor in model.graph.initializer):
        return "a reference to another file"
    if len(model.graph.sparse_initializer):
        return "sparse tensors"
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx") or node.op_type not in OPERATORS:
            return f"an operator {node.domain}:{node.op_type}"
        for attribute in node.attribute:
            if attribute.type not in _PLAIN:
                return f"an operator {node.op_type} with a graph or tensors of its own"
            if attribute.t.external_data or attribute.t.data_location:
                return "a reference to another file"
    return ""


_PLAIN = frozenset({1, 2, 3, 4, 6, 7, 8})
"""AttributeProto's numbers of FLOAT, INT, STRING, TENSOR, FLOATS, INTS and STRINGS."""
