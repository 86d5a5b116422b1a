"""An exponential moving average of the weights: Lightning's callback, and the network that it holds."""

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import nn


class Average(EMAWeightAveraging):
    """Lightning's callback: validated, tested and shipped are the averaged weights and statistics."""

    def setup(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str) -> None:
        """Put the average where the weights will be; Lightning moves these later, and would leave it where they are."""
        self._device = trainer.strategy.root_device
        super().setup(trainer, module, stage)

    def network(self, task: Any) -> nn.Module:
        """Return the averaged network of a task that trains; afterwards the task's own is that."""
        averaged: Any = self._average_model
        found: nn.Module = task.model.network if averaged is None else averaged.module.model.network
        return found
