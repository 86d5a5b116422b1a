"""A callback that measures firing and gradients of every spiking layer during training."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import nn

from ..diagnosis import LayerReport, LayerTally, gradient_rms, judge, layer_reports, probe
from ..files import write_csv
from .finite_steps import NumericsError
from .options import Silent
from .tables import layer_rows

PATIENCE = 3
"""The number of measurements in a row with a silent or saturated layer after which a run stops."""


class Health(Callback):
    """Measures firing rate, silent and saturated neurons and gradient of every layer, every ``every`` steps.

    Gradients are measured at the spikes by hooks, so training gives the same result with and without this callback. In
    fp16 they include the loss scale; the ratio between layers, by which they are judged, does not.

    It works with any LightningModule whose neurons are built-in or of SpikingJelly, snnTorch, Norse or sinabs.

    Args:
        path: CSV file for the last measurement of each epoch; None writes no file.
        every: steps between measurements within an epoch; one costs a fraction of a step (studies/watch_cost.py).
        network: returns the network of the Lightning module; by default the module itself.
        silent_layers: what to do if a layer is silent or saturated: ``"warn"`` once, ``"stop"`` the run after three
            measurements in a row, or ``"ignore"`` it.
        log: receives one line for each kind of problem.

    Raises:
        ValueError: ``every`` is below 1.

    Example:
        >>> import lightning.pytorch as pl
        >>> trainer = pl.Trainer(callbacks=[Health(every=10)], logger=False, enable_checkpointing=False)
    """

    def __init__(
        self,
        path: Path | None = None,
        every: int = 50,
        network: Callable[[Any], nn.Module] = lambda module: module,
        silent_layers: Silent = "warn",
        log: Callable[[str], None] = print,
    ) -> None:
        if every < 1:
            raise ValueError(f"every must be at least 1 step, got {every}")
        self.path, self.every, self.network, self.log_line = path, every, network, log
        self.silent_layers = silent_layers
        self.layers: tuple[LayerReport, ...] = ()
        self.gradients: dict[str, float] = {}
        """Gradient RMS of each layer's weights on the last batch of the epoch."""
        self.rows: list[dict[str, Any]] = []
        # The last measurement is part of the checkpoint: an epoch may resume after it.
        self.last_rows: list[dict[str, Any]] = []
        self.reported: list[str] = []
        self.failures_in_a_row = 0
        self._probe = ExitStack()
        self._tallies: dict[str, LayerTally] = {}

    def on_train_batch_start(self, trainer: pl.Trainer, module: Any, batch: Any, batch_idx: int) -> None:
        """Start a measurement if it is this batch's turn."""
        if batch_idx % self.every == 0:
            self._tallies = self._probe.enter_context(probe(self.network(module), membrane=False))

    def on_before_optimizer_step(self, trainer: pl.Trainer, module: Any, optimizer: Any) -> None:
        """Read the gradients of the epoch's last batch."""
        if trainer.is_last_batch:
            self.gradients = gradient_rms(self.network(module))

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Evaluate the measurement.

        Raises:
            NumericsError: layers stay silent or saturated, and ``silent_layers`` is ``"stop"``.
        """
        self._probe.close()
        tallies, self._tallies = self._tallies, {}
        if not tallies:
            return
        self.layers = layer_reports(self.network(module), tallies)
        self.last_rows = layer_rows(self.layers)
        means = getattr(module, "train_means", None)
        if means is not None:
            means.update({"firing_rate": sum(layer.rate for layer in self.layers) / len(self.layers)}, 1)
        self._report(trainer, module)

    def _report(self, trainer: pl.Trainer, module: Any) -> None:
        verdict = judge(self.layers)
        is_dead = verdict.kind in ("silent", "saturated")
        if is_dead and self.silent_layers == "ignore":
            return
        where = f"epoch {trainer.current_epoch + 1}, step {trainer.global_step}"
        if verdict.kind != "healthy" and verdict.kind not in self.reported and trainer.is_global_zero:
            self.reported.append(verdict.kind)
            self.log_line(f"{where}: {verdict.sentence}")
        if self.silent_layers != "stop":
            return
        # A layer counts as dead if it is in every process.
        dead = trainer.strategy.reduce(torch.tensor(float(is_dead), device=module.device), reduce_op="sum")
        self.failures_in_a_row = self.failures_in_a_row + 1 if int(dead) == trainer.world_size else 0
        if self.failures_in_a_row >= PATIENCE:
            raise NumericsError(
                f"{verdict.sentence} ({where}, {PATIENCE} measurements in a row). Try another optimizer.lr or "
                "neuron.threshold, or resume with training.silent_layers=warn"
            )

    def on_train_epoch_end(self, trainer: pl.Trainer, module: Any) -> None:
        """Record the last measurement of the epoch."""
        self.rows += [{"epoch": trainer.current_epoch + 1} | row for row in self.last_rows]
        if self.path is not None and trainer.is_global_zero and self.rows:
            write_csv(self.path, self.rows)

    def on_exception(self, trainer: pl.Trainer, module: Any, exception: BaseException) -> None:
        """Remove the hooks."""
        self._probe.close()

    _STATE = ("rows", "last_rows", "reported", "failures_in_a_row")

    def state_dict(self) -> dict[str, Any]:
        """Return the records."""
        return {name: getattr(self, name) for name in self._STATE}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the records."""
        for name in self._STATE:
            setattr(self, name, state[name])
