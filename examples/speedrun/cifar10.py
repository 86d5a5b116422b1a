"""Train a small spiking VGG on CIFAR-10 in minutes on two CPU cores.

    python examples/speedrun/cifar10.py DATA [--track integers] [--neurons spikingjelly] [--seeds 5] [--out FOLDER]

DATA is the folder that holds ``cifar-10-batches-py`` (or will, with ``--download``), or an ``.npz`` archive with
``x_train``, ``y_train``, ``x_test`` and ``y_test``. There are two tracks:

- ``integers``: I-LIF neurons, which output 0 to 4 (as many spikes at inference);
- ``binary``: LIF neurons.

Both have one time step.

Every seed is a line of a table in FOLDER, with a table of its epochs beside it; the same command goes on with the next
seed. The accuracy is that after the last epoch, and nothing is chosen by it. Network and recipe follow Keller Jordan's
airbench94_muon (https://github.com/KellerJordan/cifar10-airbench), with spiking neurons in place of GELU.
"""

import argparse
import copy
import resource
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import fmean, stdev

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LinearLR
from torch.utils.flop_counter import FlopCounterMode

from shortcut_snn.cli.report import read_rows
from shortcut_snn.data import CIFAR10, ImageArchive, Source
from shortcut_snn.files import write_csv
from shortcut_snn.neurons import ILIF, LIF, NormNeuron, Triangle, keep_freed_memory
from shortcut_snn.training import Muon

MEAN, STD = torch.tensor(CIFAR10.mean).view(3, 1, 1), torch.tensor(CIFAR10.std).view(3, 1, 1)
WIDTHS = (64, 256, 256)
BATCH_SIZE = 500
SHIFT = 2
"""Largest shift of a training image along each axis, in pixels."""
DECAY = 0.25
GAIN = {"integers": 2.0, "binary": 1.0}
"""Standard deviation of a neuron's input, in thresholds."""
EPOCHS = 6
FILTER_LR = 0.08
"""First step of a layer's filters relative to their norm."""
BIAS_LR = 0.053
READOUT_LR = 0.67
WEIGHT_DECAY = 0.001
"""Of biases and readout, in each step, at the full learning rate."""
LABEL_SMOOTHING = 0.2


class SpikingJelly(nn.Module):
    """A layer of SpikingJelly's neurons that starts every sequence at rest."""

    def __init__(self, track: str) -> None:
        from spikingjelly.activation_based import neuron, surrogate

        super().__init__()
        tau, triangle = 1 / (1 - DECAY), surrogate.PiecewiseQuadratic(1.0)
        if track == "integers":
            self.neuron = neuron.ILIFNode(tau, 1.0, surrogate.MultiLevelSpikeCount(4), step_mode="m")
        else:
            self.neuron = neuron.LIFNode(tau, False, v_reset=0.0, surrogate_function=triangle, step_mode="m")

    def forward(self, currents: Tensor) -> Tensor:
        """Map currents [T, N, C, H, W] to spikes of the same shape."""
        self.neuron.reset()
        return self.neuron(currents)


def make_neuron(track: str, library: str) -> nn.Module:
    """Return a layer of neurons; both libraries compute the same."""
    if library == "spikingjelly":
        return SpikingJelly(track)
    return ILIF(DECAY, most=4) if track == "integers" else LIF(DECAY, surrogate=Triangle())


class Layer(nn.Module):
    """Convolution, max pooling if asked for, a norm whose scale is not learned, and neurons."""

    def __init__(self, inputs: int, outputs: int, pool: nn.Module, gain: float, neuron: nn.Module) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        # The first filters pass on the layer's input.
        nn.init.dirac_(self.conv.weight.data[:inputs])
        self.pool = pool
        norm = nn.BatchNorm2d(outputs, momentum=0.4)
        nn.init.constant_(norm.weight, gain).requires_grad_(False)
        self.spike = NormNeuron(norm, neuron)

    def forward(self, x: Tensor) -> Tensor:
        """Map spikes [T, N, inputs, H, W] to spikes [T, N, outputs, ...]."""
        currents = self.pool(self.conv(x.flatten(0, 1))).unflatten(0, x.shape[:2])
        return self.spike(currents)


class Network(nn.Module):
    """A frozen stem, three stages of two layers, and a linear readout.

    Space is reduced by the maximum, or by the mean where outputs are 0 or 1 and the maximum would tell little.
    """

    def __init__(self, track: str, library: str, classes: int, images: Tensor) -> None:
        super().__init__()
        self.is_binary, gain = track == "binary", GAIN[track]
        self.stem = nn.Conv2d(3, 24, 2, bias=False).requires_grad_(False)
        self.stem.weight.copy_(whitening_filters(images) * gain)
        self.first = make_neuron(track, library)
        self.layers = nn.Sequential()
        inputs = 24
        for width in WIDTHS:
            for pool in (nn.MaxPool2d(2), nn.Identity()):
                self.layers.append(Layer(inputs, width, pool, gain, make_neuron(track, library)))
                inputs = width
        self.readout = nn.Linear(inputs, classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, 3, H, W] to logits [N, classes]."""
        spikes: Tensor = self.layers(self.first(self.stem(x).unsqueeze(0))).squeeze(0)
        # The factor keeps the first logits small, as in airbench94.
        features = spikes.mean((2, 3)) if self.is_binary else spikes.amax((2, 3)) / 9
        logits: Tensor = self.readout(features)
        return logits.float()

    @torch.no_grad()
    def normalise_filters(self) -> None:
        """Set the norm of every layer's filters, so that a step turns them by the same angle; the output stays."""
        for layer in self.layers:
            weight = layer.conv.weight
            weight.mul_(len(weight) ** 0.5 / weight.norm())


def whitening_filters(images: Tensor) -> Tensor:
    """Return filters [24, 3, 2, 2] whose outputs are uncorrelated and of variance 1, each with both signs.

    A filter and its negative are an ON and an OFF channel, as those of an event camera.
    """
    patches = images.unfold(2, 2, 1).unfold(3, 2, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, 12)
    variances, directions = torch.linalg.eigh(patches.T @ patches / len(patches))
    filters = (directions / (variances + 5e-4).sqrt()).T.reshape(12, 3, 2, 2)
    return torch.cat([filters, -filters])


def normalised(images: Tensor) -> Tensor:
    """Return uint8 images [N, 3, H, W] as float32, channels last."""
    return ((images / 255 - MEAN) / STD).contiguous(memory_format=torch.channels_last)


class Batches:
    """Training batches with random shifts, and flips that alternate: an image seen as it is, next comes mirrored."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images = F.pad(images.float(), (SHIFT,) * 4, "reflect").byte()
        self.labels = labels
        self.is_mirrored = torch.rand(len(images)) < 0.5

    def __len__(self) -> int:
        return len(self.images) // BATCH_SIZE

    def epoch(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images and labels of an epoch; the last, shorter batch is left out."""
        side = self.images.shape[-1] - 2 * SHIFT
        for chosen in torch.randperm(len(self.images))[: len(self) * BATCH_SIZE].split(BATCH_SIZE):
            rows, columns = torch.randint(2 * SHIFT + 1, (2, BATCH_SIZE, 1)) + torch.arange(side)
            columns = torch.where(self.is_mirrored[chosen, None], columns.flip(1), columns)
            shifted = self.images[chosen[:, None, None], :, rows[:, :, None], columns[:, None, :]]
            yield normalised(shifted.permute(0, 3, 1, 2)), self.labels[chosen]
        self.is_mirrored.logical_not_()


def make_optimizers(network: Network, steps: int) -> list[tuple[Optimizer, LinearLR]]:
    """Return the optimizers and their schedules: all rates fall linearly to 0."""
    filters = [layer.conv.weight for layer in network.layers]
    # Muon scales a step by 0.2 * sqrt(fan-in); here a filter turns by the same angle in every layer.
    groups = [{"params": [weight], "lr": FILTER_LR / (0.2 * weight[0].numel() ** 0.5)} for weight in filters]
    muon = Muon(groups, weight_decay=0, momentum=0.6)
    biases = [layer.spike.norm.bias for layer in network.layers]
    sgd = SGD(
        [
            {"params": biases, "lr": BIAS_LR, "weight_decay": WEIGHT_DECAY / BIAS_LR},
            {"params": network.readout.parameters(), "lr": READOUT_LR, "weight_decay": WEIGHT_DECAY / READOUT_LR},
        ],
        momentum=0.85,
        nesterov=True,
    )
    return [(each, LinearLR(each, 1.0, 0.0, steps)) for each in (muon, sgd)]


@torch.no_grad()
def accuracy(network: Network, images: Tensor, labels: Tensor, views: bool = False) -> float:
    """Return the accuracy on images; with views, logits are the mean over an image and its mirror image."""
    network.eval()
    correct = 0
    for part, target in zip(images.split(1000), labels.split(1000), strict=True):
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(normalised(part))
            if views:
                logits = logits + network(normalised(part.flip(3)))
        correct += int((logits.argmax(1) == target).sum())
    network.train()
    return correct / len(labels)


def step_operations(network: Network, images: Tensor) -> int:
    """Return the operations of a training step's convolutions and products: 2 for a multiplication and addition."""
    with FlopCounterMode(display=False) as counter, torch.autocast("cpu", torch.bfloat16):
        copy.deepcopy(network)(images).sum().backward()
    return counter.get_total_flops()


def train(data: Source, track: str, library: str, epochs: int, seed: int, log: Path) -> dict[str, float]:
    """Train once, write a line for each epoch to ``log``, and return what was measured."""
    torch.manual_seed(seed)
    started = time.perf_counter()
    network = Network(track, library, len(data.classes), normalised(data.train.images[:5000]))
    network.to(memory_format=torch.channels_last)
    batches = Batches(data.train.images, data.train.labels)
    steps = epochs * len(batches)
    optimizers = make_optimizers(network, steps)
    operations = steps * step_operations(network, normalised(data.train.images[:BATCH_SIZE]))
    seconds, rows = time.perf_counter() - started, []
    for epoch in range(1, epochs + 1):
        started, losses = time.perf_counter(), []
        for images, labels in batches.epoch():
            with torch.autocast("cpu", torch.bfloat16):
                logits = network(images)
            loss = F.cross_entropy(logits, labels, label_smoothing=LABEL_SMOOTHING)
            loss.backward()
            for optimizer, schedule in optimizers:
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            network.normalise_filters()
            losses.append(loss.item())
        seconds += time.perf_counter() - started
        row = {"epoch": epoch, "seconds": round(seconds, 1), "loss": round(fmean(losses), 4)}
        row["test_accuracy"] = accuracy(network, data.test.images, data.test.labels)
        print(
            "seed {}, epoch {epoch}: loss {loss:.3f}, test {test_accuracy:.2%}, {seconds} s".format(seed, **row),
            flush=True,
        )
        rows.append(row)
        write_csv(log, rows)
    return {
        "accuracy": rows[-1]["test_accuracy"],
        "accuracy_two_views": accuracy(network, data.test.images, data.test.labels, views=True),
        "minutes": round(seconds / 60, 2),
        "pflop": round(operations / 1e15, 4),
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }


def main() -> None:
    """Train the seeds that the table of runs lacks, and print means and standard deviations."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of CIFAR-10, or .npz archive of images")
    parser.add_argument("--track", choices=GAIN, default="integers")
    parser.add_argument("--neurons", choices=("shortcut_snn", "spikingjelly"), default="shortcut_snn")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="passes over the training set")
    parser.add_argument("--seeds", type=int, default=1, help="number of runs")
    parser.add_argument("--out", type=Path, default=Path("runs/speedrun"), help="folder of the tables")
    parser.add_argument("--download", action="store_true", help="download CIFAR-10 into the folder")
    arguments = parser.parse_args()
    kind = ImageArchive if arguments.data.suffix == ".npz" else partial(CIFAR10, download=arguments.download)
    try:
        data = kind(str(arguments.data)).read()
    except (OSError, ValueError) as error:
        parser.error(str(error))
    keep_freed_memory()
    name = f"{arguments.track}-{arguments.neurons}-{arguments.epochs}-epochs"
    records = arguments.out / f"{name}.csv"
    rows = read_rows(records)
    for seed in range(len(rows), arguments.seeds):
        log = arguments.out / f"{name}-seed{seed}.csv"
        rows.append({"seed": seed} | train(data, arguments.track, arguments.neurons, arguments.epochs, seed, log))
        write_csv(records, rows)
    for column in ("accuracy", "accuracy_two_views", "minutes", "pflop", "peak_gib"):
        values = [float(row[column]) for row in rows]
        spread = f" +- {stdev(values):.4f}" if len(values) > 1 else ""
        print(f"{column}: {fmean(values):.4f}{spread} (n = {len(values)})")


if __name__ == "__main__":
    main()
