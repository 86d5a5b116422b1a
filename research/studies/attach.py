"""Train networks of SpikingJelly, snnTorch and Norse with and without branches on N-MNIST, and write a table.

    python research/studies/attach.py NMNIST.npz OUT [--seeds 3] [--epochs 15]

Each seed holds out another fifth of the recordings for testing, the same with and without the method. It takes about
90 minutes on one core. The same command resumes: runs in the CSV files in OUT are not repeated. The table is
OUT/table.md. With ``digits`` in place of a file, the data are scikit-learn's.
"""

import argparse
import csv
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shortcut_snn import LinearDecay, LogitSum, LossSum, Shortcut, attach
from shortcut_snn._utils.files import write_csv, write_text
from shortcut_snn._utils.markdown import markdown_table
from shortcut_snn._utils.statistics import mean_interval, with_interval
from shortcut_snn.data import Digits, RecordingArchive

METHODS: dict[str, LogitSum | LossSum] = {"without": LogitSum(), "logit_sum": LogitSum(), "loss_sum": LossSum()}
COLUMNS = {"test_last": "last epoch", "test_best": "best on validation"}
FOLDS = 5


def spikingjelly_resnet18(channels: int) -> nn.Module:
    """Build SpikingJelly's ResNet-18 as the library's training script does."""
    from spikingjelly.activation_based import functional, neuron, surrogate
    from spikingjelly.activation_based.model.spiking_resnet import spiking_resnet18

    options: dict[str, Any] = {"surrogate_function": surrogate.ATan(), "detach_reset": True, "num_classes": 10}
    net: nn.Module = spiking_resnet18(spiking_neuron=neuron.LIFNode, **options)
    functional.set_step_mode(net, "m")
    return net


def snntorch_convnet(channels: int) -> nn.Module:
    """Build the network of snnTorch's tutorial 6, which computes one time step per call."""
    import snntorch

    leaky = {"beta": 0.5, "spike_grad": snntorch.surrogate.fast_sigmoid(slope=25), "init_hidden": True}
    first = [nn.Conv2d(channels, 12, 5), nn.MaxPool2d(2), snntorch.Leaky(**leaky)]
    second = [nn.Conv2d(12, 64, 5), nn.MaxPool2d(2), snntorch.Leaky(**leaky)]
    return nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(64 * 4 * 4, 10), snntorch.Leaky(**leaky, output=True))


def norse_convnet(channels: int) -> nn.Module:
    """Build the network of Norse's MNIST task, which loops over time itself."""
    from norse.torch.models.conv import ConvNet4

    net: nn.Module = ConvNet4(num_channels=channels)
    return net


@dataclass(frozen=True)
class Network:
    """A network, its input and the options of ``attach``.

    Args:
        title: its name in the table.
        build: returns the network for a number of channels.
        taps: the submodules that get branches.
        size: height and width of the input.
        time_steps: T.
        channels: fixed number of input channels; images are repeated, events get channels of zeros.
        scale: factor on the input current.
        lr: learning rate at the start.
        options: further arguments of ``attach``.
    """

    title: str
    build: Callable[[int], nn.Module]
    taps: str | list[str]
    size: int
    time_steps: int
    channels: int | None = None
    scale: float = 1.0
    lr: float = 1e-3
    options: dict[str, Any] = field(default_factory=dict)


NETWORKS = {
    "spikingjelly_resnet18": Network(
        "SpikingJelly, spiking_resnet18, T = 4", spikingjelly_resnet18, "stages", 32, 4, channels=3
    ),
    "snntorch_convnet": Network(
        "snnTorch, tutorial 6, T = 8",
        snntorch_convnet,
        ["2", "5"],
        28,
        8,
        lr=1e-2,
        options={"batch_axis": 1, "readout": lambda output: output[1].mean(0)},  # of (spikes, potentials)
    ),
    "norse_convnet": Network(
        "Norse, ConvNet4, T = 16",
        norse_convnet,
        ["lif0", "lif1"],
        28,
        16,
        scale=2.0,
        options={"readout": lambda voltages: voltages.amax(0)},  # as in the task
    ),
}


class Batches:
    """Batches ``[T, N, C, H, W]`` of digits as a constant current, or of N-MNIST's recordings as frames."""

    def __init__(self, data: str, network: Network, seed: int, size: int, limit: int | None) -> None:
        self.network, self.limit, shape = network, limit, network.size
        self.is_digits = data == "digits"
        if self.is_digits:
            self.data = Digits(augment=(), batch_size=size).load()
        else:
            # The archive has few test recordings, so each seed holds out another fifth of all recordings.
            archive = RecordingArchive(data, augment=(), batch_size=size, size=shape, folds=FOLDS, fold=seed % FOLDS)
            self.data = archive.load(network.time_steps)
        self.channels = network.channels or (1 if self.is_digits else 2)
        self.loaders = self.data.loaders(seed)

    def read(self, part: str, epoch: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of ``"train"``, ``"validation"`` or ``"test"``; each epoch has another order."""
        if part == "train":
            self.loaders.train.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        net = self.network
        for images, labels in itertools.islice(getattr(self.loaders, part), self.limit):
            if self.is_digits:
                enlarged = F.interpolate(images / 255, (net.size, net.size), mode="bilinear")
                frames = enlarged.expand(net.time_steps, -1, self.channels, -1, -1)
            else:
                counts = images.transpose(0, 1) / torch.tensor(self.data.std).view(-1, 1, 1)
                frames = F.pad(counts, (0, 0, 0, 0, 0, self.channels - counts.shape[2]))
            yield frames * net.scale, labels


def train(network: Network, method: str, batches: Batches, seed: int, epochs: int) -> dict[str, float]:
    """Train a network and return its accuracies."""
    torch.manual_seed(seed)
    example = torch.zeros(network.time_steps, 2, batches.channels, network.size, network.size)
    taps = [] if method == "without" else network.taps
    model = attach(network.build(batches.channels), taps, example=example, num_classes=10, **network.options)
    optimizer = torch.optim.AdamW(model.parameters(), lr=network.lr)
    steps = len(batches.loaders.train)
    total = epochs * min(steps, batches.limit or steps)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total)
    branch_weight = LinearDecay(initial=0.25)
    step, best = 0, {"validation": -1.0, "test": 0.0}
    for epoch in range(epochs):
        for frames, labels in batches.read("train", epoch):
            loss = METHODS[method](model(frames), labels, branch_weight(step, total))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            step += 1
        last = {part: accuracy(model, batches.read(part)) for part in ("validation", "test")}
        best = last if last["validation"] > best["validation"] else best
    return {"test_last": last["test"], "validation_best": best["validation"], "test_best": best["test"]}


@torch.no_grad()
def accuracy(model: Shortcut, batches: Iterator[tuple[Tensor, Tensor]]) -> float:
    """Return the percentage of right answers of the main output."""
    model.eval()
    right = [model(frames).main.argmax(1) == labels for frames, labels in batches]
    model.train()
    return 100 * torch.cat(right).float().mean().item()


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file; none if it does not exist."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def table(folder: Path, networks: Sequence[str], settings: Mapping[str, str]) -> str:
    """Return a Markdown table: means ± 95 % intervals over seeds, and of the differences to "without".

    Args:
        folder: with a CSV file for each network.
        networks: their names.
        settings: what the rows must have been trained with; a file may have others too.
    """
    columns = ["network", "accuracy after", "without", "logit sum", "loss sum"]
    columns += ["logit sum, paired", "loss sum, paired", "seeds"]
    lines = []
    for name in networks:
        wanted = {**settings, "lr": str(NETWORKS[name].lr)}.items()
        rows = [row for row in read_rows(folder / f"{name}.csv") if wanted <= row.items()]
        for column, said in COLUMNS.items():
            by = [{row["seed"]: float(row[column]) for row in rows if row["method"] == method} for method in METHODS]
            seeds = sorted(by[0].keys() & by[1].keys() & by[2].keys())
            values = [[each[seed] for seed in seeds] for each in by]
            values += [[b - a for a, b in zip(values[0], those, strict=True)] for those in values[1:]]
            cells = [with_interval(*mean_interval(value), digits=1) for value in values]
            lines.append([NETWORKS[name].title, said, *cells, str(len(seeds))])
    return markdown_table(columns, lines) + "\n"


def main() -> None:
    """Train and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="N-MNIST as one .npz file, or digits")
    parser.add_argument("out", type=Path, help="folder for the CSV files and the table")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--limit", type=int, help="batches of each part of the data, for a trial")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    settings = {key: str(getattr(options, key)) for key in ("data", "epochs", "batch_size", "limit")}
    for name in options.networks:
        path, network = options.out / f"{name}.csv", NETWORKS[name]
        rows = read_rows(path)
        for seed, method in itertools.product(range(options.seeds), METHODS):
            entries = settings | {"lr": str(network.lr), "seed": str(seed), "method": method}
            if not any(entries.items() <= row.items() for row in rows):
                batches = Batches(options.data, network, seed, options.batch_size, options.limit)
                accuracies = train(network, method, batches, seed, options.epochs)
                rows.append(entries | {key: f"{value:.2f}" for key, value in accuracies.items()})
                print(name, *(f"{key}={rows[-1][key]}" for key in ("seed", "method", *accuracies)), flush=True)
                write_csv(path, rows)
    text = table(options.out, options.networks, settings)
    write_text(options.out / "table.md", text)
    print(text)


if __name__ == "__main__":
    main()
