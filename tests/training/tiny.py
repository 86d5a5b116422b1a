"""What trains in a moment: images of two classes, a network of a person's own of a few channels."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from shortcut_snn import components
from shortcut_snn.data import as_data
from shortcut_snn.neurons import LIF, ATan
from shortcut_snn.training import Classification, Training, fit
from shortcut_snn.training.run_state import Run


class Net(nn.Module):
    """Two spiking layers over two time steps, with batch norms or without."""

    def __init__(self, norm: bool = True) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm1, self.norm2 = (nn.BatchNorm2d(4) if norm else nn.Identity() for _ in range(2))
        self.spike1, self.spike2 = LIF(surrogate=ATan()), LIF(surrogate=ATan())
        self.head = nn.Linear(4 * 16, 2)

    def forward(self, x: Tensor) -> Tensor:
        current = 2 * self.norm1(self.conv1(x))
        spikes = self.spike1(current.expand(2, *current.shape)).flatten(0, 1)
        current = 2 * self.norm2(self.conv2(spikes)).unflatten(0, (2, len(x)))
        return self.head(self.spike2(current).mean(0).flatten(1))


class Sides(Dataset[tuple[Tensor, int]]):
    """Images of ``[1, 4, 4]`` that are bright on the left, or on the right, seen through random noise."""

    classes = ("left", "right")

    def __init__(self, count: int, noise: float = 0.1) -> None:
        self.count, self.noise = count, noise

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        label = index % 2
        image = torch.zeros(1, 4, 4)
        image[..., 2 * label : 2 * label + 2] = 1.0
        return image + self.noise * torch.randn(1, 4, 4), label


def network(norm: bool = True) -> Net:
    """Return the same network every time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Net(norm)


def task(
    *, net: nn.Module | None = None, method: Any = None, optimizer: Any = None, lr_schedule: Any = None, **training: Any
) -> Any:
    """Return a task around the network."""
    return Classification(
        network() if net is None else net,
        method=method,
        optimizer=optimizer or components.optimizer.make("adamw", lr=0.02),
        lr_schedule=lr_schedule,
        training=Training(**{"epochs": 2, "accelerator": "cpu", "threads": 1} | training),
    )


def sides(batch_size: int = 8, train: int = 40) -> Any:
    """Return data for it: training, validation and test."""
    return as_data((Sides(train), Sides(12), Sides(12)), batch_size=batch_size)


def run(folder: Path | Run, what: Any, data: Any = None, **options: Any) -> dict[str, Any]:
    """Train without a word."""
    return fit(what, sides() if data is None else data, folder, **{"log": lambda line: None} | options)
