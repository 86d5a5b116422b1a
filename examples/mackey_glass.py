"""A task other than classification: forecast the Mackey-Glass series with a deep spiking network and branches.

This file registers a data set, a network and a task. From the root of the repository::

    shortcut-snn train --import examples/mackey_glass.py --config examples/mackey_glass.yaml --out runs/mackey-glass
    shortcut-snn compare --import examples/mackey_glass.py --config examples/mackey_glass.yaml \
        --methods vanilla evolutionary --out runs/mackey-glass-compare

The series is chaotic and exactly computable: dx/dt = 0.2 x(t - 17) / (1 + x(t - 17)^10) - 0.1 x(t).
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from shortcut_snn import components
from shortcut_snn.data import Data, as_data
from shortcut_snn.training import Task


def mackey_glass(length: int, delay: int = 17, steps: int = 10) -> Tensor:
    """Return the series at integer times, standardised, ``[length]``: Euler's method, ``steps`` per unit of time."""
    x = [1.2] * (delay * steps + 1)
    for _ in range((length + 100) * steps):
        late = x[-1 - delay * steps]
        x.append(x[-1] + (0.2 * late / (1 + late**10) - 0.1 * x[-1]) / steps)
    series = torch.tensor(x[-length * steps :: steps])
    return (series - series.mean()) / series.std()


@components.data("mackey_glass")
@dataclass(frozen=True)
class MackeyGlass:
    """Windows of the series, and the value some steps after each window.

    Args:
        samples: number of windows for training, validation and test, in this order in time.
        window: number of steps in a window.
        horizon: number of steps from the end of the window to the target.
        batch_size: windows in a batch.
    """

    samples: int = 3000
    window: int = 24
    horizon: int = 6
    batch_size: int = 64

    def load(self, time_steps: int | None = None) -> Data:
        """Return the data."""
        series = mackey_glass(self.samples + self.window + self.horizon)
        windows = series.unfold(0, self.window, 1)[: self.samples].unsqueeze(-1).contiguous()
        targets = series[self.window + self.horizon - 1 :][: self.samples].unsqueeze(-1)
        cuts = [0, int(0.7 * self.samples), int(0.85 * self.samples), self.samples]
        parts = tuple(TensorDataset(windows[a:b], targets[a:b]) for a, b in pairwise(cuts))
        return as_data(parts, batch_size=self.batch_size, description={"features": 1})


class Forecaster(nn.Module):
    """Spiking layers ``layer1``, ``layer2``, ...; the forecast is read from their rates at the end of the window."""

    def __init__(self, features: int, make_neuron: Callable[[], nn.Module], width: int, depth: int) -> None:
        super().__init__()
        for i in range(depth):
            layer = nn.Sequential(nn.Linear(width if i else features, width), nn.LayerNorm(width), make_neuron())
            self.add_module(f"layer{i + 1}", layer)
        self.depth, self.readout_layer = depth, nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[T, N, features]`` to forecasts ``[N, 1]``."""
        for i in range(self.depth):
            x = self.get_submodule(f"layer{i + 1}")(x)
        return self.readout_layer(x[-8:].mean(0))


@components.network("forecaster")
def forecaster(features: int, make_neuron: Callable[[], nn.Module], *, width: int = 64, depth: int = 6) -> Forecaster:
    """A stack of spiking layers.

    Args:
        features: number of features of a time step.
        make_neuron: returns the neurons of a layer.
        width: number of neurons in a layer.
        depth: number of layers.
    """
    return Forecaster(features, make_neuron, width, depth)


@components.task("forecast")
class Forecast(Task):
    """Forecasting with the mean squared error."""

    metric = "rmse"

    def prepare(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Put time first."""
        windows, targets = batch
        return windows.transpose(0, 1).contiguous(), targets

    def criterion(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean squared error."""
        return F.mse_loss(prediction, target)

    def metrics(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return its root."""
        return {"rmse": F.mse_loss(prediction, target).sqrt()}

    @property
    def chance(self) -> float:
        """The error of the mean as a forecast: the series has a standard deviation of 1."""
        return 1.0
