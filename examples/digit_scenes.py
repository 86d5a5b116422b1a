"""A dense task: which digit does each pixel belong to? A spiking encoder and decoder, with branches that keep space.

This file registers a data set, a network and a task. From the root of the repository::

    shortcut-snn train --import examples/digit_scenes.py --config examples/digit_scenes.yaml --out runs/digit-scenes
    shortcut-snn compare --import examples/digit_scenes.py --config examples/digit_scenes.yaml \
        --methods vanilla evolutionary --out runs/digit-scenes-compare

Scenes are real handwritten digits of 8x8 pixels, those of scikit-learn, placed at random on a noisy canvas.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from shortcut_snn import components
from shortcut_snn.data import Data, as_data
from shortcut_snn.neurons import Neuron, NormNeuron
from shortcut_snn.training import Task

DIGIT = 8
INK = 0.3


def scenes(images: Tensor, labels: Tensor, count: int, side: int, draw: torch.Generator) -> TensorDataset:
    """Return canvases ``[count, 1, side, side]`` with two digits each, and the kind of each pixel (0: background)."""
    canvases = 0.2 * torch.rand(count, 1, side, side, generator=draw)
    kinds = torch.zeros(count, side, side, dtype=torch.int64)
    chosen = torch.randint(len(images), (count, 2), generator=draw)
    corners = torch.randint(side - DIGIT + 1, (count, 2, 2), generator=draw)
    for scene, (digits, scene_corners) in enumerate(zip(chosen.tolist(), corners.tolist(), strict=True)):
        for digit, (top, left) in zip(digits, scene_corners, strict=True):
            part = (scene, slice(top, top + DIGIT), slice(left, left + DIGIT))
            ink = images[digit] > INK
            canvases[:, 0][part][ink] = images[digit][ink]
            kinds[part][ink] = 1 + labels[digit]
    return TensorDataset(canvases, kinds)


@components.data("digit_scenes")
@dataclass(frozen=True)
class DigitScenes:
    """Scenes of digits and the kind of each pixel; the parts share no digits.

    Args:
        samples: number of scenes for training; validation and test have a fourth as many.
        digits: number of kinds of digits, from 0 on.
        side: side of a scene in pixels.
        batch_size: scenes in a batch.
    """

    samples: int = 2000
    digits: int = 4
    side: int = 24
    batch_size: int = 32

    def load(self, time_steps: int | None = None) -> Data:
        """Return the data."""
        source = load_digits(n_class=self.digits)
        images, labels = torch.tensor(source.images, dtype=torch.float32) / 16, torch.tensor(source.target)
        draw, part = torch.Generator().manual_seed(0), torch.arange(len(labels)) % 5
        parts = tuple(
            scenes(images[which], labels[which], count, self.side, draw)
            for which, count in (
                (part < 3, self.samples),
                (part == 3, self.samples // 4),
                (part == 4, self.samples // 4),
            )
        )
        description = {"channels": 1, "image_size": [self.side] * 2, "kinds": self.digits + 1}
        return as_data(parts, batch_size=self.batch_size, description=description)


class Layer(nn.Module):
    """A 3x3 convolution, batch norm and spiking neurons; ``[T, N, C, H, W]``."""

    def __init__(self, inputs: int, outputs: int, stride: int, make_neuron: Callable[[], Neuron]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.spike = NormNeuron(nn.BatchNorm2d(outputs), make_neuron())

    def forward(self, x: Tensor) -> Tensor:
        """Return spikes."""
        return self.spike(self.conv(x.flatten(0, 1)).unflatten(0, x.shape[:2]))


class Segmenter(nn.Module):
    """Layers ``layer1``, ``layer2``, ... down to a fourth of the size and up again, and a readout of rates."""

    def __init__(
        self, channels: int, kinds: int, make_neuron: Callable[[], Neuron], width: int, time_steps: int
    ) -> None:
        super().__init__()
        self.time_steps = time_steps
        self.layer1 = Layer(channels, width, 1, make_neuron)
        self.layer2 = Layer(width, 2 * width, 2, make_neuron)
        self.layer3 = Layer(2 * width, 4 * width, 2, make_neuron)
        self.layer4 = Layer(6 * width, 2 * width, 1, make_neuron)
        self.layer5 = Layer(3 * width, width, 1, make_neuron)
        self.readout_layer = nn.Conv2d(width, kinds, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``[N, C, H, W]`` to logits of each pixel ``[N, kinds, H, W]``."""
        fine = self.layer1(x.expand(self.time_steps, *x.shape))
        half = self.layer2(fine)
        x = self.layer4(torch.cat([enlarged(self.layer3(half), half), half], 2))
        return self.readout_layer(self.layer5(torch.cat([enlarged(x, fine), fine], 2)).mean(0))


def enlarged(x: Tensor, like: Tensor) -> Tensor:
    """Return spikes ``[T, N, C, h, w]`` enlarged to the size of ``like``."""
    return F.interpolate(x.flatten(0, 1), like.shape[-2:]).unflatten(0, x.shape[:2])


@components.network("segmenter")
def segmenter(
    in_channels: int, kinds: int, make_neuron: Callable[[], Neuron], *, width: int = 16, time_steps: int = 2
) -> Segmenter:
    """An encoder and a decoder of spiking layers.

    Args:
        in_channels: channels of an image.
        kinds: number of kinds of pixels.
        make_neuron: returns the neurons of a layer.
        width: channels of the first layer.
        time_steps: T.
    """
    return Segmenter(in_channels, kinds, make_neuron, width, time_steps)


@components.task("segmentation")
class Segmentation(Task):
    """Segmentation with a cross-entropy at each pixel; its metric is the mean intersection over union."""

    metric = "iou"
    higher_is_better = True
    fraction = True
    readout = None
    """The network's output is the prediction as it is."""

    def criterion(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the cross-entropy of logits ``[N, kinds, H, W]``."""
        return F.cross_entropy(prediction, target)

    def metrics(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return the IoU, averaged over the kinds that a scene has or the prediction shows, then over the scenes."""
        kinds = prediction.shape[1]
        predicted, true = (F.one_hot(labels, kinds).bool() for labels in (prediction.argmax(1), target))
        intersection, union = (predicted & true).sum((1, 2)), (predicted | true).sum((1, 2))
        iou = (intersection / union.clamp_min(1)).sum(1) / (union > 0).sum(1)
        return {"iou": iou.mean(), "pixels": (prediction.argmax(1) == target).float().mean()}
