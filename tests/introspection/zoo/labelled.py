"""Networks whose layers, inputs or predictions are unusual, most of them with labels of several axes."""

from dataclasses import dataclass

import torch
from spikingjelly.activation_based import neuron
from torch import Tensor, nn

from .entry import CLASSES, entry, features, frames, images


class WarmedUp(nn.Module):
    """As in conversions: half a threshold of charge before the first step."""

    def __init__(self) -> None:
        super().__init__()
        self.t, self.neuron = 0, neuron.IFNode(v_reset=None)

    def forward(self, x: Tensor) -> Tensor:
        if self.t == 0:
            self.neuron(torch.full_like(x, 0.5))
        self.t += 1
        return self.neuron(x)

    def reset(self) -> None:
        self.t = 0
        self.neuron.reset()


@entry(features(), widths={16, 12}, asks="one time step per call.*loop='network'", cure={"loop": "network"})
def converted() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 16), WarmedUp(), nn.Linear(16, 12), WarmedUp(), nn.Linear(12, CLASSES))


class GatedConvolution(nn.Module):
    """A convolution whose channels are the gates of an LSTM."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, 4 * outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        i, f, o, g = self.conv(x).chunk(4, 1)
        return o.sigmoid() * (i.sigmoid() * g.tanh() + f.sigmoid()).tanh()


@entry(images(3, 3, 6), widths={8})
def gates() -> nn.Module:
    pooled = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, CLASSES))
    return nn.Sequential(GatedConvolution(3, 8), GatedConvolution(8, 8), GatedConvolution(8, 8), *pooled)


@dataclass
class Tokens:
    values: Tensor
    padding: Tensor


@entry(lambda: Tokens(torch.rand(3, 7, 6), torch.zeros(3, 7, dtype=torch.bool)), widths={16, 12})
class DataclassBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 16), nn.Linear(16, 12), nn.Linear(12, CLASSES)

    def forward(self, batch: Tokens) -> Tensor:
        hidden = self.b(self.a(batch.values).relu()).relu()
        return self.c((hidden * ~batch.padding[..., None]).mean(1))


@entry(features(), widths={16, 12}, given={"labels": torch.eye(CLASSES)[:3] + 0.5}, read=lambda net, x: net(x)[0])
class Actor(nn.Module):
    """The mean and the width of an action. The width is a parameter, so no sample shows in it."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, CLASSES))
        self.log_std = nn.Parameter(torch.zeros(CLASSES))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = self.body(x)
        return mean, self.log_std.expand_as(mean)


@entry(lambda: torch.rand(3, 2, 5, 6, 6), widths={6}, given={"labels": torch.zeros(3, 5, 6, 6, dtype=torch.long)})
def volumes() -> nn.Module:
    body = (m for i in (2, 6, 6) for m in (nn.Conv3d(i, 6, 3, padding=1), nn.ReLU()))
    return nn.Sequential(*body, nn.Conv3d(6, CLASSES, 1))


@entry(images(3, 3, 16), widths={16}, given={"labels": torch.zeros(3, 16, 16, dtype=torch.long)})
class TokensUnderAMap(nn.Module):
    """Tokens of patches inside, a map of classes outside, as vision transformers for segmentation have them."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(48, 16), nn.Linear(16, CLASSES * 16)
        self.blocks = nn.Sequential(*(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True) for _ in range(3)))

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5).reshape(len(x), 16, 48)
        y = self.head(self.blocks(self.embed(tokens))).view(len(x), 4, 4, CLASSES, 4, 4)
        return y.permute(0, 3, 1, 4, 2, 5).reshape(len(x), CLASSES, 16, 16)


@entry(frames(), batch=1, widths={4, 6, 8})
class AnEmptyStage(nn.Module):
    """Stages of which the last is a placeholder."""

    def __init__(self) -> None:
        super().__init__()
        for number, (inputs, outputs) in enumerate(((2, 4), (4, 6), (6, 8)), 1):
            self.add_module(f"layer{number}", nn.Sequential(nn.Conv2d(inputs, outputs, 3), nn.ReLU()))
        self.layer4, self.head = nn.Sequential(), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer4(self.layer3(self.layer2(self.layer1(x.flatten(0, 1)))))
        return self.head(y.mean((2, 3)).unflatten(0, x.shape[:2]).mean(0))
