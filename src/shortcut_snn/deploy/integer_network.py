"""Integer graphs in torch, fast enough for whole test sets; equal, bit for bit, to :mod:`.integer_reference`."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .integer_reference import Interpreter


class IntegerNetwork(nn.Module):
    """The network of an integer file. It takes what the network takes that it was made from."""

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


class _TorchInterpreter(Interpreter):
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
                self.weights[name] = torch.from_numpy(self.weights[name]).to(
                    torch.float32 if bound < 2**24 else torch.float64
                )

    def _integers(self, x: Tensor) -> Tensor:
        return x.long()

    def _sums(self, node: dict[str, Any], x: Tensor) -> Tensor:
        weight: Tensor = self.weights[node["name"]]
        return F.conv2d(x.to(weight.dtype), weight, None, node["stride"], node["padding"]).long()

    def _maxpool(self, node: dict[str, Any], x: Tensor) -> Tensor:
        # Edges that the last windows reach beyond the image, where it rounds up.
        pooled = F.max_pool2d(x.double(), node["size"], node["stride"], node["padding"], ceil_mode=node["up"])
        return pooled.long()

    def _sumpool(self, node: dict[str, Any], x: Tensor) -> Tensor:
        _, rows, columns = node["shape"]
        return (F.avg_pool2d(x.double(), 2, ceil_mode=True) * 4).long()[..., :rows, :columns]
