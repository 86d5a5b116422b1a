"""Integer graphs in torch, fast enough for whole test sets; equal, bit for bit, to :mod:`.integer_reference`."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .integer_reference import unpacked


class IntegerNetwork(nn.Module):
    """The network of an integer file. It takes what the network takes that it was made from.

    Convolutions are computed in floating point where the largest possible sum is exact: below ``2 ** 24`` in float32,
    below ``2 ** 53`` in float64. Everything else is computed in int64.

    Args:
        about: the JSON object of the file.
        tensors: the tensors of the file.
    """

    def __init__(self, about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.about, self.tensors = dict(about), dict(tensors)
        self.weights: dict[str, Tensor] = {}
        for node in self._convolutions():
            name = node["name"]
            inputs = self._channels_of(node["inputs"][0])
            weight = torch.from_numpy(unpacked(self.tensors[f"{name}.weight"].numpy(), inputs))
            assert node["sum_bound"] < 2**53, f"{name}: its sums are not exact"
            self.weights[name] = weight.to(torch.float32 if node["sum_bound"] < 2**24 else torch.float64)

    def _convolutions(self) -> list[dict[str, Any]]:
        nodes = [*self.about["nodes"], self.about["readout"]]
        return [node for node in nodes if node["op"] == "conv"]

    def _channels_of(self, value: str) -> int:
        shapes = {node["name"]: node["shape"] for node in self.about["nodes"]}
        return int(shapes[value][0] if value in shapes else self.about["input"][-3])

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised images ``[N, C, H, W]`` or frames ``[T, N, C, H, W]`` to logits ``[N, classes]``."""
        return self.run(self.restored(x))[0] * self.about["logit_scale"]

    def restored(self, x: Tensor) -> Tensor:
        """Return the bytes, or counts of at most 255, of normalised images or frames; the batch axis comes first."""
        data = self.about["data"]
        mean, std = (torch.tensor(data[name]).view(-1, 1, 1) for name in ("mean", "std"))
        raw = (x * std + mean) * (255 if self.about["static"] else 1)
        raw = raw if self.about["static"] else raw.transpose(0, 1)
        return raw.round().clamp(0, 255).to(torch.uint8)

    @torch.no_grad()
    def run(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return logits, int64 ``[N, classes]``, and spikes ``[T, N, C, H, W]`` by the names of the layers.

        Args:
            images: uint8 ``[N, C, H, W]``, or frames of counts ``[N, T, C, H, W]``.
        """
        about = self.about
        values: dict[str, Tensor] = {}
        membranes: dict[str, Tensor] = {}
        spikes: dict[str, list[Tensor]] = {node["name"]: [] for node in about["nodes"] if node["op"] == "neuron"}
        total: Any = 0
        for step in range(about["time_steps"]):
            frame = images if about["static"] else images[:, step]
            values["input"] = frame.long() * about["gain"] - _per_channel(self.tensors["input.offset"])
            for node in about["nodes"]:
                name, inputs = node["name"], [values[each] for each in node["inputs"]]
                if node["once"] and step:
                    continue
                if node["op"] == "neuron":
                    values[name], membranes[name] = self._fire(node, sum(inputs[1:], inputs[0]), membranes.get(name))
                    spikes[name].append(values[name])
                else:
                    values[name] = getattr(self, f"_{node['op']}")(node, *inputs)
            total = total + values[about["readout"]["inputs"][0]]
        logits = self._conv(about["readout"], total).flatten(1)
        return logits, {name: torch.stack(steps) for name, steps in spikes.items()}

    def _fire(self, node: dict[str, Any], current: Tensor, before: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return counts of spikes and the membrane potential."""
        numerator, digits = node["decay"]
        membrane = current if before is None else (before * numerator >> digits) + current
        levels = self.tensors[f"{node['name']}.threshold"]
        counts = sum(((membrane > _per_channel(level)).long() for level in levels.T), torch.zeros_like(membrane))
        if node["soft"]:
            return counts, membrane - counts * _per_channel(self.tensors[f"{node['name']}.reset"])
        return counts, membrane * (counts == 0)

    # One method per operation.

    def _conv(self, node: dict[str, Any], x: Tensor) -> Tensor:
        weight = self.weights[node["name"]]
        sums = F.conv2d(x.to(weight.dtype), weight, None, node["stride"], node["padding"]).long()
        if node["rescale"] is None:
            current = sums << node["shift"]
        else:
            product = sums * _per_channel(self.tensors[f"{node['name']}.multiplier"])
            current = product + (1 << node["rescale"] >> 1) >> node["rescale"]
        return current + _per_channel(self.tensors[f"{node['name']}.bias"])

    def _maxpool(self, node: dict[str, Any], x: Tensor) -> Tensor:
        padded = self._padded(node, x.double(), -(2.0**31))
        return F.max_pool2d(padded, node["size"], node["stride"]).long()

    def _sumpool(self, node: dict[str, Any], x: Tensor) -> Tensor:
        pooled = F.avg_pool2d(x.double(), 2, ceil_mode=True) * 4
        return pooled.long()

    def _padded(self, node: dict[str, Any], x: Tensor, fill: float) -> Tensor:
        (top, left), edges = node["padding"], []
        sides = zip(x.shape[2:], node["shape"][1:], node["size"], node["stride"], (top, left), strict=True)
        for side, outputs, size, stride, before in sides:
            edges.append((before, max(0, (outputs - 1) * stride + size - before - side)))
        return F.pad(x, (*edges[1], *edges[0]), value=fill)

    def _shift(self, node: dict[str, Any], x: Tensor) -> Tensor:
        return x << int(node["shift"])

    def _add(self, node: dict[str, Any], a: Tensor, b: Tensor) -> Tensor:
        return a + b

    def _sum(self, node: dict[str, Any], x: Tensor) -> Tensor:
        return x.sum((2, 3), keepdim=True)


def _per_channel(x: Tensor) -> Tensor:
    return x.long().view(-1, 1, 1)
