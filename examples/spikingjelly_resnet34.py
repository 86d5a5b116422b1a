"""A training loop with SpikingJelly's spiking_resnet34 on scikit-learn's digits. Lines marked ``+`` are shortcut-snn's.

    python examples/spikingjelly_resnet34.py --method initialised

``without`` is the loop as it was, ``initialised`` sets the initial values by measurement, and ``loss_sum`` trains with
branches.
"""

import argparse

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from spikingjelly.activation_based import functional, neuron, surrogate
from spikingjelly.activation_based.model.spiking_resnet import spiking_resnet34
from torch.nn.functional import cross_entropy, interpolate
from torch.utils.data import DataLoader, TensorDataset

from shortcut_snn import attach, initialise, measure_energy  # +

T = 2


def to_frames(images: torch.Tensor) -> torch.Tensor:
    """Return images as a constant current ``[T, N, 3, 32, 32]``."""
    return interpolate(images, (32, 32), mode="bilinear").expand(T, -1, 3, -1, -1)


@torch.no_grad()
def accuracy(net: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the percentage of right answers."""
    net.eval()
    right = 0
    for x, y in zip(images.split(120), labels.split(120), strict=True):
        right += int((net(to_frames(x)).mean(0).argmax(1) == y).sum())
        functional.reset_net(net)
    net.train()
    return 100 * right / len(labels)


def main() -> None:
    """Train and print the accuracy and its price."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", choices=["without", "initialised", "loss_sum"], default="initialised")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, help="images, for a trial")
    options = parser.parse_args()

    torch.manual_seed(options.seed)
    digits = load_digits()
    images = torch.tensor(digits.images[: options.limit, None] / 16, dtype=torch.float32)
    labels = torch.tensor(digits.target[: options.limit])
    train_x, test_x, train_y, test_y = train_test_split(images, labels, test_size=0.2, random_state=options.seed)
    loader = DataLoader(TensorDataset(train_x, train_y), batch_size=min(64, len(train_x)), shuffle=True, drop_last=True)

    net = spiking_resnet34(
        spiking_neuron=neuron.LIFNode, surrogate_function=surrogate.ATan(), detach_reset=True, num_classes=10
    )
    functional.set_step_mode(net, "m")
    x, y = next(iter(loader))
    if options.method == "initialised":  # +
        print(initialise(net, to_frames(x), y))  # +
    model = None
    if options.method == "loss_sum":  # +
        model = attach(net, "blocks", example=to_frames(x), labels=y, method="loss_sum")  # +
    optimizer = torch.optim.AdamW((model or net).parameters(), lr=options.lr)
    step, steps = 0, options.epochs * len(loader)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for epoch in range(options.epochs):
        for x, y in loader:
            x = to_frames(x)
            loss = model.loss(model(x), y, step, steps) if model else cross_entropy(net(x).mean(0), y)  # +
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            functional.reset_net(net)
            step += 1
        print(f"epoch {epoch}: loss {loss:.2f}, test accuracy {accuracy(net, test_x, test_y):.1f} %", flush=True)
    energy = measure_energy(net, [to_frames(test_x[:64])])  # +
    print(f"firing rate {energy.firing_rate:.0%}, energy with memory {energy.total_energy / 1e6:.1f} uJ an image")  # +


if __name__ == "__main__":
    main()
