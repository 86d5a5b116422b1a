"""Networks without spikes, in the shapes that images, tokens, sequences and videos have."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from .entry import CLASSES, MEAN, entry, features, first_of, images, mean, sequence


@entry(features())
class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3, self.fc4 = (
            nn.Linear(6, 7),
            nn.Linear(7, 8),
            nn.Linear(8, 9),
            nn.Linear(9, CLASSES),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.fc4(F.relu(self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))))


def block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


@entry(images(), widths={4, 6, 8})
class Vgg(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *block(3, 4), *block(4, 6), nn.MaxPool2d(2), *block(6, 8), *block(8, 8), nn.AdaptiveAvgPool2d(1)
        )
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(8, 12), nn.ReLU(), nn.Dropout(), nn.Linear(12, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))


class Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, zero: bool = False) -> None:
        super().__init__()
        self.body = nn.Sequential(block(inputs, outputs), nn.Conv2d(outputs, outputs, 3, 1, 1), nn.BatchNorm2d(outputs))
        self.skip = nn.Conv2d(inputs, outputs, 1)
        if zero:
            nn.init.zeros_(self.body[2].weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu_(self.body(x) + self.skip(x))


@entry(images(8), widths={4, 6, 8})
class UnusualStages(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv2_x, self.conv3_x, self.conv4_x = Residual(3, 4), Residual(4, 6), Residual(6, 8)
        self.fc = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv4_x(self.conv3_x(self.conv2_x(x))).mean((2, 3)))


@entry(images(4), widths={4})
class StagesInAList(nn.Module):
    """Its stages are lists, which are never called, and the batch is as large as the channels are many."""

    def __init__(self) -> None:
        super().__init__()
        for number in (1, 2, 3):
            stage = nn.ModuleList([Residual(3 if number == 1 else 4, 4), Residual(4, 4)])
            self.add_module(f"stage{number}", stage)
        self.fc = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        for stage in (self.stage1, self.stage2, self.stage3):
            for layer in stage:
                x = layer(x)
        return self.fc(x.mean((2, 3)))


@entry(images(5), widths={4, 5}, first=False)
class AtRestAtFirst(nn.Module):
    """The last norm of each block and the head start at zero; as many samples as classes and channels."""

    def __init__(self) -> None:
        super().__init__()
        self.layer1, self.layer2, self.layer3 = Residual(3, 4, True), Residual(4, 5, True), Residual(5, 6, True)
        self.fc = nn.Linear(6, CLASSES)
        nn.init.zeros_(self.fc.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))


class Encoder(nn.Module):
    """A transformer's block for tokens ``[..., L, C]``."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, 2, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 16), nn.GELU(), nn.Linear(16, width))
        self.scale = nn.Parameter(torch.full((width,), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + self.scale * self.attn(y, y, y)[0]
        return x + self.scale * self.mlp(self.norm2(x))


class Last(nn.Module):
    """A stage of images ``[N, H, W, C]``."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.reduce, self.norm = nn.Linear(4 * inputs, outputs), nn.LayerNorm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        parts = [x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
        return F.gelu(self.norm(self.reduce(torch.cat(parts, -1))))


@entry(images(4, 3, 16), widths={4, 8})
class ChannelsLast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList([Last(3, 4), Last(4, 8), Last(8, 8)])
        self.fc = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        for stage in self.stages:
            x = stage(x)
        return self.fc(x.mean((1, 2)))


@entry(sequence(4, 3), read=mean(0), batch=1, **MEAN)
class LstmEveryStep(nn.Module):
    """``[T, N, F]``, with logits of every step."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.rnn, self.fc2, self.head = nn.Linear(6, 7), nn.LSTM(7, 8), nn.Linear(8, 9), nn.Linear(9, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.fc2(self.rnn(self.fc1(x).relu())[0]).relu())


@entry(sequence(3, 6, 9), widths={4, 6})
def temporal_convolutions() -> nn.Module:
    """``[N, C, T]``."""
    return nn.Sequential(
        *(nn.Conv1d(6, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.Conv1d(4, 6, 3), nn.BatchNorm1d(6), nn.ReLU()),
        *(nn.Conv1d(6, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(8, CLASSES)),
    )


@entry(sequence(7, 3, 8), batch=1, widths={8})
class SequenceFirst(nn.Module):
    """torch's own encoder, which takes ``[L, N, C]`` and is not called layer by layer in evaluation if it can."""

    def __init__(self) -> None:
        super().__init__()
        layers = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1)
        self.encoder = nn.TransformerEncoder(layers, 3, enable_nested_tensor=False)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x)[0])


@entry(lambda: torch.randint(0, 20, (3, 7)))
class Words(nn.Module):
    """Whole numbers in, ``[N, L]``."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.layers = nn.ModuleList([Encoder() for _ in range(3)])
        self.head = nn.Linear(8, CLASSES)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embedding(ids)
        for layer in self.layers:
            x = layer(x)
        return self.head(x.mean(1))


@entry(lambda: {"image": torch.rand(3, 3, 8, 8)}, read=first_of("logits"))
class Dictionaries(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer1, self.layer2, self.layer3, self.fc = block(3, 4), block(4, 6), block(6, 8), nn.Linear(8, CLASSES)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        x = self.layer3(self.layer2(self.layer1(batch["image"]))).mean((2, 3))
        return {"features": x, "logits": self.fc(x)}


@entry(
    lambda: {"input_ids": torch.randint(0, 9, (3, 6)), "mask": torch.ones(3, 6)}, read=lambda net, x: net(**x).logits
)
class Keywords(nn.Module):
    """Its inputs are keywords, its output an object with fields, as those of Hugging Face are."""

    @dataclass
    class Output:
        loss: Any
        logits: Tensor
        hidden: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.fc1, self.fc2, self.fc3 = (
            nn.Embedding(9, 8),
            nn.Linear(8, 8),
            nn.Linear(8, 8),
            nn.Linear(8, 8),
        )
        self.head = nn.Linear(8, CLASSES)

    def forward(self, input_ids: Tensor, mask: Tensor | None = None, labels: Tensor | None = None) -> Any:
        x = self.embedding(input_ids)
        for layer in (self.fc1, self.fc2, self.fc3):
            x = layer(x).relu()
        x = x.mean(1) if mask is None else (x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return self.Output(None, self.head(x), x)


@entry(lambda: (torch.rand(3, 6), torch.rand(3, 4)), read=lambda net, x: net(*x))
class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(6, 8), nn.Linear(4, 8)
        self.fc1, self.fc2, self.head = nn.Linear(8, 9), nn.Linear(9, 10), nn.Linear(10, CLASSES)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.head(self.fc2(self.fc1((self.left(a) + self.right(b)).relu()).relu()).relu())


@entry(images())
def traced() -> nn.Module:
    return fx.symbolic_trace(UnusualStages())


@entry(images(), widths={4, 5}, first=False)
def frozen_norms() -> nn.Module:
    network = AtRestAtFirst()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return network


@entry(images(), independent=False)
def norms_without_running_statistics() -> nn.Module:
    network = Vgg()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats, module.running_mean, module.running_var = False, None, None
    return network


@entry(images(), widths={4, 6}, asks=r"readout=None if it is \[N, classes, \.\.\.\]", cure={"readout": None})
class Segmentation(nn.Module):
    """``[N, classes, H, W]``."""

    def __init__(self) -> None:
        super().__init__()
        self.layer1, self.layer2, self.layer3 = block(3, 4), block(4, 6), block(6, 8)
        self.head = nn.Conv2d(8, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer3(self.layer2(self.layer1(x))))


@entry(images())
class Lazy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer1, self.layer2, self.layer3 = nn.LazyConv2d(4, 3), nn.LazyConv2d(5, 3), nn.LazyConv2d(6, 3)
        self.fc = nn.LazyLinear(CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.layer3(self.layer2(self.layer1(x).relu()).relu()).relu().mean((2, 3)))


MEAN_OVER_TIME = {"batch_axis": 0, "readout": lambda output: output.mean(1)}


@entry(sequence(3, 4, 6), asks="pass batch_axis=0 if it is .N, T, ....", cure=MEAN_OVER_TIME, read=mean(1))
class PositionByPosition(nn.Module):
    """Nothing says which of the first axes holds samples."""

    def __init__(self) -> None:
        super().__init__()
        self.layer1 = nn.Sequential(nn.Linear(6, 8), nn.Tanh())
        self.layer2 = nn.Sequential(nn.Linear(8, 7), nn.Tanh())
        self.layer3 = nn.Linear(7, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer3(self.layer2(self.layer1(x)))


@entry(lambda: (torch.rand(5, 7, 20), torch.tensor([7, 5, 6, 3, 7])), widths={12, 11}, read=lambda net, x: net(*x))
class Padded(nn.Module):
    """Normalises what is no padding: as many rows as the batch has steps, whichever these are."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Linear(20, 12), nn.BatchNorm1d(12), nn.Linear(12, 11)
        self.act, self.other, self.head = nn.ReLU(), nn.ReLU(), nn.Linear(11, CLASSES)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        valid = torch.arange(x.shape[1]) < lengths[:, None]
        hidden = self.first(x)
        normed = torch.zeros_like(hidden)
        normed[valid] = self.norm(hidden[valid])
        hidden = self.other(self.second(self.act(normed)))
        return (self.head(hidden) * valid[..., None]).sum(1)
