"""An exponential moving average of the weights: Lightning's callback, and the network that it holds."""

from typing import Any

from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import nn


class Average(EMAWeightAveraging):
    """Lightning's callback: validated, tested and shipped are the averaged weights and statistics."""

    def network(self, task: Any) -> nn.Module:
        """Return the averaged network of a task that trains; afterwards the task's own is that."""
        averaged: Any = self._average_model
        found: nn.Module = task.model.network if averaged is None else averaged.module.model.network
        return found
