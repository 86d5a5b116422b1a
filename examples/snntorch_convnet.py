"""A training loop with a convolutional network of snnTorch on scikit-learn's digits. Lines marked ``+`` are new.

    python examples/snntorch_convnet.py --method initialised

``without`` is the loop as it was, ``initialised`` sets the initial values by measurement, and ``loss_sum`` trains with
branches. The network has no norms, and the loss is that of the membrane potentials, as in snnTorch's tutorials.
"""

import argparse
from itertools import pairwise

import snntorch
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from snntorch import surrogate
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate
from torch.utils.data import DataLoader, TensorDataset

from shortcut_snn import attach, initialise, measure_energy  # +


class Net(nn.Module):
    """Convolutions and leaky neurons that see an image for five steps."""

    def __init__(self, depth: int, channels: int = 32) -> None:
        super().__init__()
        widths = [1, *[channels] * depth]
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths))
        self.pool = nn.MaxPool2d(2)
        self.classifier = nn.Linear(channels * 4 * 4, 10)
        leaky = {"beta": 0.9, "spike_grad": surrogate.fast_sigmoid(slope=25)}
        self.lifs = nn.ModuleList(snntorch.Leaky(**leaky) for _ in range(depth + 1))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return spikes and membrane potentials of the last neurons, ``[T, N, 10]``."""
        membranes = [lif.reset_mem() for lif in self.lifs]
        spikes, potentials = [], []
        for _ in range(5):
            x = images
            for i, conv in enumerate(self.convs):
                x = self.pool(conv(x)) if i < 2 else conv(x)
                x, membranes[i] = self.lifs[i](x, membranes[i])
            x, membranes[-1] = self.lifs[-1](self.classifier(x.flatten(1)), membranes[-1])
            spikes.append(x)
            potentials.append(membranes[-1])
        return torch.stack(spikes), torch.stack(potentials)


def logits(output: tuple[Tensor, Tensor]) -> Tensor:
    """Return the membrane potentials, averaged over time."""
    return output[1].mean(0)


def compute_loss(output: tuple[Tensor, Tensor], labels: Tensor) -> Tensor:
    """Return the cross-entropy."""
    return cross_entropy(logits(output), labels)


def main() -> None:
    """Train and print the accuracy and its price."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", choices=["without", "initialised", "loss_sum"], default="initialised")
    parser.add_argument("--depth", type=int, default=6, help="convolutions (default: 6)")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, help="images, for a trial")
    options = parser.parse_args()

    torch.manual_seed(options.seed)
    digits = load_digits()
    images = torch.tensor(digits.images[: options.limit, None] / 16, dtype=torch.float32)
    images, labels = interpolate(images, (16, 16), mode="bilinear"), torch.tensor(digits.target[: options.limit])
    train_x, test_x, train_y, test_y = train_test_split(images, labels, test_size=0.2, random_state=options.seed)
    loader = DataLoader(TensorDataset(train_x, train_y), batch_size=min(64, len(train_x)), shuffle=True, drop_last=True)

    net = Net(options.depth)
    x, y = next(iter(loader))
    if options.method == "initialised":  # +
        print(initialise(net, x, y, loss=compute_loss))  # +
    model = None
    if options.method == "loss_sum":  # +
        model = attach(net, example=x, labels=y, method="loss_sum", readout=logits)  # +
    optimizer = torch.optim.Adam((model or net).parameters(), lr=options.lr)
    step, steps = 0, options.epochs * len(loader)
    for epoch in range(options.epochs):
        for x, y in loader:
            loss = model.loss(model(x), y, step, steps) if model else compute_loss(net(x), y)  # +
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
        with torch.no_grad():
            accuracy = 100 * (logits(net(test_x)).argmax(1) == test_y).float().mean()
        print(f"epoch {epoch}: loss {loss:.2f}, test accuracy {accuracy:.1f} %", flush=True)
    energy = measure_energy(net, [test_x[:64]])  # +
    print(f"firing rate {energy.firing_rate:.0%}, energy with memory {energy.total_energy / 1e6:.1f} uJ an image")  # +


if __name__ == "__main__":
    main()
