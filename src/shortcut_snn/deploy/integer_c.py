"""The export format ``c``: an integer file as C99, without allocation, fractions or dependencies."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from torch import nn

from .. import components
from .._utils.files import write_text
from . import integer_reference as reference
from .exporter import Logits
from .integer_export import Integer
from .spec import NetworkSpec

_TEMPLATES = Path(__file__).with_name("c")


@components.exporter("c")
@dataclass(frozen=True)
class C(Integer):
    """C99 of an integer file, which is written too: ``network.c``, ``network.h``, and a ``Makefile`` with a check.

    Args:
        bits: see :class:`.Integer`.
    """

    file = "network.c"

    def export(self, network: nn.Module, spec: NetworkSpec, path: Path) -> Logits:
        """Write the files and return a function that runs the integer file; see :meth:`.Exporter.export`."""
        integers = path.with_name(Integer.file)
        for template in _TEMPLATES.iterdir():
            old = path.with_name(template.name)
            if old.is_file() and "Written by shortcut-snn" not in old.read_text(encoding="utf-8", errors="replace"):
                raise ValueError(f"{old} was not written by an export, and would be replaced: choose another folder")
        logits = super().export(network, spec, integers)
        for name, text in c_files(*reference.read(integers)).items():
            write_text(path if name == self.file else path.with_name(name), text)
        return logits


def c_files(about: Mapping[str, Any], tensors: Mapping[str, Any]) -> dict[str, str]:
    """Return the texts of the C files of an integer network by their names."""
    values = _Source(about, tensors).values()
    texts = {path.name: path.read_text(encoding="utf-8") for path in _TEMPLATES.iterdir()}
    return {name: re.sub(r"@(\w+)@", lambda match: str(values[match[1]]), text) for name, text in texts.items()}


def _array(kind: str, declaration: str, values: Any) -> str:
    """Return the C text of a constant array, with nested arrays in braces."""

    def braces(part: Any) -> str:
        numbers = (f"{value}u" if kind == "uint32_t" else str(value) for value in part.tolist())
        inside = ",\n".join(map(braces, part)) if part.ndim > 1 else fill(", ".join(numbers), 120)
        return f"{{{inside}}}"

    return f"static const {kind} {declaration} = {braces(values)};"


class _Source:
    """The calls and constants of a graph, and where its values lie in memory."""

    def __init__(self, about: Mapping[str, Any], tensors: Mapping[str, Any]) -> None:
        self.about, self.tensors = about, tensors
        self.nodes: list[dict[str, Any]] = about["nodes"]
        self.readout: dict[str, Any] = about["readout"]
        self.shapes = {node["name"]: node["shape"] for node in self.nodes} | {"input": about["input"][-3:]}
        self.layers = [node["name"] for node in self.nodes if node["op"] == "neuron"]
        # Each value is in one of two arrays.
        self.array_of = {"input": "counts"}
        arrays = {"conv": "currents", "shift": "currents", "neuron": "counts"}
        for node in self.nodes:
            self.array_of[node["name"]] = arrays.get(node["op"], self.array_of[node["inputs"][0]])
        self.offsets, self.sizes = self._place()
        ends = np.cumsum([0, *(prod(self.shapes[name]) for name in self.layers)]).tolist()
        self.membranes, self.sizes["membranes"] = dict(zip(self.layers, ends, strict=False)), ends[-1]
        self.constants: list[str] = []
        self.flash = 0
        self.used: set[str] = set()

    def values(self) -> dict[str, Any]:
        """Return the values of the names in the templates."""
        about, readout = self.about, self.readout
        features = readout["inputs"][0]
        offset = self._constant("int32_t", "input.offset")
        load = self._call("load", "frame", "input", self._at("input"), about["gain"], offset)
        once, calls = ([load], []) if about["static"] else ([], [load])
        for node in self.nodes:
            (once if node["once"] else calls).extend(self._calls(node))
        (logits,) = self._convolution(readout, "snn.total", "logits", f"(struct map){{1, 1, {readout['shape'][0]}}}")
        width = self.shapes[features][0]
        words = self.sizes["currents"] + self.sizes["membranes"] + width + 1
        names = ", ".join(f'"{name}"' for name in self.layers)
        vectors = {name: self.tensors[f"vectors.{name}"] for name in ("input", "logits", "spikes")}
        inputs = vectors["input"].reshape(len(vectors["input"]), -1)
        return {
            **self.sizes, "features": width, "total": self.offsets[features], "readout": logits,
            "uses": "\n".join(f"#define USES_{name}" for name in sorted(self.used)),
            "arrays": "\n\n".join(self.constants), "calls": "\n    ".join(calls),
            "once": "\n        ".join(once),
            "input": prod(self.shapes["input"]), "frames": 1 if about["static"] else about["time_steps"],
            "steps": about["time_steps"], "classes": readout["shape"][0], "layers": len(self.layers),
            "flash": self.flash, "ram": 2 * self.sizes["counts"] + 4 * words, "vectors": len(inputs), "names": names,
            "vector_inputs": _array("uint8_t", "inputs[VECTORS][SNN_FRAMES * SNN_INPUT]", inputs),
            "vector_logits": _array("int32_t", "expected_logits[VECTORS][SNN_CLASSES]", vectors["logits"]),
            "vector_spikes": _array("uint32_t", "expected_spikes[VECTORS][SNN_STEPS][SNN_LAYERS]", vectors["spikes"]),
        }  # fmt: skip

    def _place(self) -> tuple[dict[str, int], dict[str, int]]:
        """Return the offset of each value, the first free one, and the sizes of the arrays."""
        last = {name: index for index, node in enumerate(self.nodes) for name in node["inputs"]}
        # What only the first step computes has to stay.
        last |= dict.fromkeys((node["name"] for node in self.nodes if node["once"]), len(self.nodes))
        last[self.readout["inputs"][0]] = len(self.nodes)
        offsets: dict[str, int] = {}
        sizes = {"counts": 0, "currents": 0}
        for birth, name in enumerate(("input", *(node["name"] for node in self.nodes)), -1):
            array, size, start = self.array_of[name], prod(self.shapes[name]), 0
            alive = (other for other in offsets if self.array_of[other] == array and last[other] >= birth)
            for other in sorted(alive, key=offsets.__getitem__):
                if start + size > offsets[other]:
                    start = max(start, offsets[other] + prod(self.shapes[other]))
            offsets[name] = start
            sizes[array] = max(sizes[array], start + size)
        return offsets, sizes

    def _at(self, name: str) -> str:
        return f"{self.array_of[name]} + {self.offsets[name]}"

    def _call(self, function: str, *arguments: Any) -> str:
        """Return a call; the name of a value is written as its map."""
        return f"{function}({', '.join(self._map(x) if x in self.shapes else str(x) for x in arguments)});"

    def _map(self, name: str) -> str:
        channels, rows, columns = self.shapes[name]
        return f"(struct map){{{rows}, {columns}, {channels}}}"

    def _constant(self, kind: str, name: str, values: Any = None) -> str:
        """Declare an array, by default a tensor, and return its name."""
        flat = np.ascontiguousarray(self.tensors[name] if values is None else values).reshape(-1)
        identifier = name.replace(".", "_")
        self.constants.append(_array(kind, f"{identifier}[{len(flat)}]", flat))
        self.flash += flat.itemsize * len(flat)
        return identifier

    def _convolution(self, node: dict[str, Any], source: str, target: str, out: str) -> list[str]:
        name, x = node["name"], node["inputs"][0]
        stored = self.tensors[f"{name}.weight"]
        # [height][width][inputs][outputs]; those of 4 bits in pairs, one of each half of the outputs.
        weight, kind = reference.unpacked(stored, self.shapes[x][0]).transpose(2, 3, 1, 0), "int8_t"
        if is_packed := stored.dtype == np.uint8:
            half = (weight.shape[3] + 1) // 2
            low, high = weight[..., :half] & 15, weight[..., half:] & 15
            weight, kind = low | np.pad(high, ((0, 0),) * 3 + ((0, 2 * half - weight.shape[3]),)) << 4, "uint8_t"
        weights = self._constant(kind, f"{name}.weight", weight.astype(np.uint8 if is_packed else np.int8))
        bias = self._constant("int32_t", f"{name}.bias")
        multiplier = "NULL" if node["rescale"] is None else self._constant("int32_t", f"{name}.multiplier")
        window = f"(struct window){{{', '.join(map(str, (*node['size'], *node['stride'], *node['padding'])))}}}"
        scale = (multiplier, node["rescale"] or 0, bias)
        if node is self.readout or self.array_of[x] == "currents":
            return [self._call("convolve_currents", source, x, weights, target, out, window, *scale)]
        self.used.add("CONVOLVE")
        bits, is_image = 4 if is_packed else 8, int(x == "input")
        return [
            self._call("convolve", source, x, weights, bits, target, out, window, is_image),
            self._call("finish", target, out, node["shift"], *scale),
        ]

    def _calls(self, node: dict[str, Any]) -> list[str]:
        name, op, inputs = node["name"], node["op"], node["inputs"]
        x, y, size = self._at(inputs[0]), self._at(name), prod(node["shape"])
        if op == "conv":
            return self._convolution(node, x, y, self._map(name))
        if op == "neuron":
            residual = self._at(inputs[1]) if len(inputs) > 1 else "NULL"
            threshold = self._constant("int32_t", f"{name}.threshold", self.tensors[f"{name}.threshold"].T)
            reset = self._constant("int32_t", f"{name}.reset") if node["soft"] else "NULL"
            membranes = f"snn.membranes + {self.membranes[name]}"
            state = (x, residual, membranes, y, name, threshold, node["levels"], reset, *node["decay"])
            return [self._call("fire", *state), self._call("TRACE", self.layers.index(name), y, size)]
        function = f"{op}_{self.array_of[name]}" if op in ("maxpool", "add") else op
        self.used.add(function.upper())
        arguments: dict[str, tuple[Any, ...]] = {
            "add": (x, self._at(inputs[-1]), y, size),
            "shift": (x, y, size, node.get("shift")),
            "sum": (x, inputs[0], y),
        }
        pool: tuple[Any, ...] = (x, inputs[0], y, name)
        if op == "maxpool":
            pool += (f"(struct window){{{', '.join(map(str, (*node['size'], *node['stride'], *node['padding'])))}}}",)
        return [self._call(function, *arguments.get(op, pool))]
