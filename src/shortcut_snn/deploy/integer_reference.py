"""A NumPy interpreter of integer network files: the definition of what such a file computes.

It needs NumPy alone, so it can be copied next to a file and run there. It prints the class of each image, or compares
the file's recorded test vectors::

    python integer_reference.py network-integer.safetensors [images.npy]

A file has tensors and a JSON object. ``nodes`` are layers in the order of their execution. All values are integers:
counts of spikes, and currents. In each time step

- ``conv`` sums ``weight * x``; the current is ``(sum << shift) + bias``, or ``(sum * multiplier >> rescale) + bias``,
  rounded, where branches of different scales meet;
- ``shift`` turns counts into a current, ``x << shift``;
- ``neuron`` adds its inputs to ``membrane * decay[0] >> decay[1]``. It outputs the number of its thresholds below the
  membrane potential, which is then set to 0 (hard reset) or lowered by ``reset`` per spike (soft reset);
- ``add``, ``maxpool``, ``sumpool`` (four times the mean) and ``sum`` (over all pixels) are what they say.

``readout`` is a ``conv`` of the counts summed over time; its output times ``logit_scale`` are the logits.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

Array = np.ndarray[Any, Any]
_DTYPES = {"I8": np.int8, "U8": np.uint8, "I32": np.int32, "I64": np.int64}


def read(path: str | Path) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return the JSON object and the tensors of an integer network file."""
    content = Path(path).read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    about = json.loads(header.pop("__metadata__")["about"])
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        flat = np.frombuffer(content[start + begin : start + end], _DTYPES[entry["dtype"]])
        tensors[name] = flat.reshape(entry["shape"])
    return about, tensors


def unpacked(weight: Array, inputs: int) -> Array:
    """Return weights ``[outputs, inputs, ...]`` as int64.

    Two of 4 bits, neighbours along the inputs, share a byte (uint8), the first in its low bits.
    """
    if weight.dtype != np.uint8:
        return weight.astype(np.int64)
    halves = np.stack([weight & 15, weight >> 4], 2).astype(np.int64)
    signed = (halves ^ 8) - 8
    return signed.reshape(len(weight), -1, *weight.shape[2:])[:, :inputs]


def run(about: dict[str, Any], tensors: dict[str, Array], images: Array) -> tuple[Array, dict[str, Array]]:
    """Return logits ``[N, classes]`` and, by the names of the layers, spikes ``[T, N, C, H, W]``.

    Args:
        about: the JSON object of the file.
        tensors: the tensors of the file.
        images: uint8 ``[N, C, H, W]``, or frames of counts ``[N, T, C, H, W]``.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8 or list(images.shape[1:]) != about["input"]:
        raise ValueError(f"the network takes uint8 [N, {about['input']}], got {images.dtype} {list(images.shape)}")
    return Interpreter(about, tensors).run(images)


class Interpreter:
    """The time loop and the operations of a network, on arrays of int64."""

    _stack: Any = staticmethod(np.stack)

    def __init__(self, about: dict[str, Any], tensors: dict[str, Any]) -> None:
        self.about = about
        self.tensors = {name: self._integers(each) for name, each in tensors.items() if not name.endswith("weight")}
        shapes = {node["name"]: node["shape"] for node in about["nodes"]} | {"input": about["input"][-3:]}
        self.weights: dict[str, Any] = {
            node["name"]: unpacked(np.asarray(tensors[f"{node['name']}.weight"]), shapes[node["inputs"][0]][0])
            for node in (*about["nodes"], about["readout"])
            if node["op"] == "conv"
        }

    def run(self, images: Any) -> tuple[Any, dict[str, Any]]:
        """Return logits and spikes; see :func:`run`."""
        about = self.about
        values: dict[str, Any] = {}
        membranes: dict[str, Any] = {}
        spikes: dict[str, list[Any]] = {node["name"]: [] for node in about["nodes"] if node["op"] == "neuron"}
        total: Any = 0
        for step in range(about["time_steps"]):
            frame = images if about["static"] else images[:, step]
            values["input"] = self._integers(frame) * about["gain"] - self._per_channel("input.offset")
            for node in about["nodes"]:
                name, inputs = node["name"], [values[each] for each in node["inputs"]]
                if node["op"] == "neuron":
                    values[name], membranes[name] = self._fire(node, sum(inputs), membranes.get(name, 0))
                    spikes[name].append(values[name])
                elif not (step and node["once"]):
                    values[name] = getattr(self, f"_{node['op']}")(node, *inputs)
            total = total + values[about["readout"]["inputs"][0]]
        logits = self._conv(about["readout"], total)[:, :, 0, 0]
        return logits, {name: self._stack(steps) for name, steps in spikes.items()}

    def _fire(self, node: dict[str, Any], current: Any, before: Any) -> tuple[Any, Any]:
        """Return counts of spikes and the membrane potential after them."""
        name, (numerator, digits) = node["name"], node["decay"]
        membrane = (before * numerator >> digits) + current
        assert abs(membrane).max() < 2**31, f"{name}: the membrane potential has more than 32 bits"
        counts = (membrane[:, :, None] > self._per_channel(f"{name}.threshold")).sum(2)
        if node["soft"]:
            return counts, membrane - counts * self._per_channel(f"{name}.reset")
        return counts, membrane * (counts == 0)

    def _conv(self, node: dict[str, Any], x: Any) -> Any:
        """Return the current of a convolution."""
        name, rescale = node["name"], node["rescale"]
        sums = self._sums(node, x)
        if rescale is None:
            current = sums << node["shift"]
        else:
            current = sums * self._per_channel(f"{name}.multiplier") + (1 << rescale >> 1) >> rescale
        return current + self._per_channel(f"{name}.bias")

    def _shift(self, node: dict[str, Any], x: Any) -> Any:
        return x << node["shift"]

    def _add(self, node: dict[str, Any], a: Any, b: Any) -> Any:
        return a + b

    def _sum(self, node: dict[str, Any], x: Any) -> Any:
        return x.sum((2, 3))[:, :, None, None]

    def _per_channel(self, name: str) -> Any:
        """Return a tensor ``[C]`` or ``[C, levels]`` with two further axes, of rows and columns."""
        return self.tensors[name][..., None, None]

    # What NumPy and torch write differently.

    def _integers(self, x: Any) -> Any:
        return x.astype(np.int64)

    def _sums(self, node: dict[str, Any], x: Any) -> Any:
        weight = self.weights[node["name"]]
        return np.moveaxis(np.tensordot(_windows(x, node, 0), weight, ((1, 4, 5), (1, 2, 3))), -1, 1)

    def _maxpool(self, node: dict[str, Any], x: Any) -> Any:
        return _windows(x, node, -(2**31)).max((-2, -1))

    def _sumpool(self, node: dict[str, Any], x: Any) -> Any:
        # At the edges a window may hold fewer than four pixels: one or two.
        pixels = _windows(np.ones_like(x), node, 0).sum((-2, -1))
        return _windows(x, node, 0).sum((-2, -1)) * 4 // pixels


def _windows(x: Array, node: dict[str, Any], fill: int) -> Array:
    """Return the windows ``[N, C, H, W, height, width]`` that the outputs of a convolution or pooling see."""
    (tall, wide), (down, right), (top, left) = node["size"], node["stride"], node["padding"]
    rows, columns = node["shape"][1:]
    bottom = max(0, (rows - 1) * down + tall - top - x.shape[2])
    far = max(0, (columns - 1) * right + wide - left - x.shape[3])
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, far)), constant_values=fill)
    return sliding_window_view(x, (tall, wide), (2, 3))[:, :, ::down, ::right][:, :, :rows, :columns]


def checksums(spikes: dict[str, Array]) -> Array:
    """Return a number of 32 bits for the spikes of each image, step and layer, ``[N, T, layers]``.

    It is the sum of ``count * (2654435761 * position + 1)`` over the positions of ``[H, W, C]``.
    """
    columns = []
    for counts in spikes.values():
        flat = np.moveaxis(counts, 2, -1).reshape(*counts.shape[:2], -1).astype(np.uint64)
        position = np.arange(flat.shape[-1], dtype=np.uint64)
        columns.append((flat * ((position * 2654435761 + 1) & 0xFFFFFFFF)).sum(-1) & 0xFFFFFFFF)
    return np.stack(columns, -1).swapaxes(0, 1).astype(np.int64)


def main() -> int:
    """Print the class of each image of a ``.npy`` file, or compare the recorded test vectors of the network file."""
    about, tensors = read(sys.argv[1])
    if len(sys.argv) > 2:
        logits, _ = run(about, tensors, np.load(sys.argv[2], allow_pickle=False))
        print(*logits.argmax(1), sep="\n")
        return 0
    logits, spikes = run(about, tensors, tensors["vectors.input"])
    equal = np.array_equal(logits, tensors["vectors.logits"])
    equal = equal and np.array_equal(checksums(spikes), tensors["vectors.spikes"])
    print(f"{len(logits)} test vectors: {'equal' if equal else 'DIFFERENT'}")
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
