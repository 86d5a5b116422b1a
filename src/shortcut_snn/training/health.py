"""A callback that measures firing and gradients of every spiking layer during training."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import fields
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from torch import nn

from ..diagnosis import judge
from ..measurement import LayerReport, probe
from ..measurement.gradients import gradient_rms
from ..measurement.layers import layer_reports
from ..measurement.probe import LayerTally
from .tables import layer_rows


def gradient_verdict(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the verdict on a measurement whose rows ``layers.csv`` has."""
    names = [field.name for field in fields(LayerReport)]
    # Empty cells are NaN.
    cells: list[dict[str, Any]] = [
        {name: math.nan if row[name] == "" else row[name] for name in names if name in row} for row in rows
    ]
    return judge([LayerReport(**row) for row in cells]).sentence


class Health(Callback):
    """Measures firing rate, silent and saturated neurons and gradient of every layer, every ``every`` batches.

    Gradients are measured at the spikes by hooks, so training gives the same result with and without this callback. In
    fp16 they include the loss scale; the ratio between layers, by which they are judged, does not.

    It works with any LightningModule whose neurons are built-in or of SpikingJelly, snnTorch, Norse or sinabs.

    Args:
        every: batches between measurements within an epoch; one costs a fraction of a step
            (research/studies/watch_cost.py).
        network: returns the network of the Lightning module; by default the module itself.
        log: receives one line for each kind of problem.

    Raises:
        ValueError: ``every`` is below 1.

    Example:
        >>> import lightning.pytorch as pl
        >>> trainer = pl.Trainer(callbacks=[Health(every=10)], logger=False, enable_checkpointing=False)
    """

    def __init__(
        self,
        every: int = 50,
        network: Callable[[Any], nn.Module] = lambda module: module,
        log: Callable[[str], None] = print,
    ) -> None:
        if every < 1:
            raise ValueError(f"every must be at least 1 step, got {every}")
        self.every, self.network, self.log_line = every, network, log
        self.layers: tuple[LayerReport, ...] = ()
        """The last measurement."""
        self.gradients: dict[str, float] = {}
        """Gradient RMS of each layer's weights on the last batch of the epoch."""
        self.rows: list[dict[str, Any]] = []
        """The last measurement of each epoch: one row for each layer."""
        # The last measurement is part of the checkpoint: an epoch may resume after it.
        self.last_rows: list[dict[str, Any]] = []
        self.reported: list[str] = []
        self._probe = ExitStack()
        self._tallies: dict[str, LayerTally] = {}

    def on_train_batch_start(self, trainer: pl.Trainer, module: Any, batch: Any, batch_idx: int) -> None:
        """Start a measurement if it is this batch's turn."""
        if batch_idx % self.every == 0:
            self.layers, self._tallies = (), self._probe.enter_context(probe(self.network(module), membrane=False))

    def on_before_optimizer_step(self, trainer: pl.Trainer, module: Any, optimizer: Any) -> None:
        """Read the gradients before they are clipped: of a measurement, and of the epoch's last batch."""
        if self._tallies:
            self.layers = layer_reports(self.network(module), self._tallies)
        if trainer.is_last_batch:
            self.gradients = gradient_rms(self.network(module))

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Evaluate the measurement, and log a kind of problem when it is first met."""
        self._probe.close()
        tallies, self._tallies = self._tallies, {}
        if not tallies:
            return
        # Of accumulated batches, only the last one takes a step.
        self.layers = self.layers or layer_reports(self.network(module), tallies)
        self.last_rows = layer_rows(self.layers)
        means = getattr(module, "train_means", None)
        if means is not None:
            spiking = [tallies[layer.layer] for layer in self.layers]
            spikes = sum(float(tally.spikes) for tally in spiking)
            means.update({"firing_rate": spikes / sum(tally.elements for tally in spiking)}, 1)
        verdict = judge(self.layers)
        if verdict.kind != "healthy" and verdict.kind not in self.reported and trainer.is_global_zero:
            self.reported.append(verdict.kind)
            self.log_line(f"epoch {trainer.current_epoch + 1}, step {trainer.global_step}: {verdict.sentence}")

    def on_train_epoch_end(self, trainer: pl.Trainer, module: Any) -> None:
        """Record the last measurement of the epoch."""
        self.rows += [{"epoch": trainer.current_epoch + 1} | row for row in self.last_rows]

    def on_exception(self, trainer: pl.Trainer, module: Any, exception: BaseException) -> None:
        """Remove the hooks."""
        self._probe.close()

    def state_dict(self) -> dict[str, Any]:
        """Return the records."""
        return {"rows": self.rows, "last_rows": self.last_rows, "reported": self.reported}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the records."""
        self.rows, self.last_rows, self.reported = state["rows"], state["last_rows"], state["reported"]
