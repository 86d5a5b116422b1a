"""A callback that looks at every spiking layer while training goes on: firing, silence, gradients."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import nn

from ..diagnosis.gradients import gradient_rms
from ..diagnosis.layers import LayerReport, layer_reports
from ..diagnosis.probe import Tally, probe
from ..diagnosis.verdict import judge
from ..files import write_csv
from .numerics import NumericsError
from .tables import layer_rows
from .training import Silent

PATIENCE = 3
"""A layer that is dead or saturated so many looks in a row stops a run that is to be stopped."""


class Health(Callback):
    """Firing, silence, saturation and gradient of every layer, every so many steps; a line when something is wrong.

    Gradients are taken at the spikes, so that kernels run as ever and training ends the same, watched or not. In fp16
    their size carries the loss scale; the factor between layers, by which they are judged, does not.

    It is for any LightningModule with neurons of this library, SpikingJelly, snnTorch or Norse.

    Args:
        path: CSV file with the last look of each epoch; None writes nothing.
        every: steps of an epoch from one look to the next; a look costs a fraction of a step (studies/watch_cost.py).
        network: finds the network in the Lightning module; by default all of the module.
        silent_layers: what to do where a layer is dead or saturated: say it once, stop after three looks in a row, or
            nothing.
        tell: takes a line for a person, once for each kind of trouble.

    Raises:
        ValueError: fewer than one step from look to look.

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
        tell: Callable[[str], None] = print,
    ) -> None:
        if every < 1:
            raise ValueError(f"every must be at least 1 step, got {every}")
        self.path, self.every, self.network, self.tell = path, every, network, tell
        self.silent_layers = silent_layers
        self.layers: tuple[LayerReport, ...] = ()
        self.gradients: dict[str, float] = {}
        """Gradient RMS of each layer's weights on the last batch of the epoch."""
        self.rows: list[dict[str, Any]] = []
        # Of the last look: an epoch may be resumed after its last one.
        self.last: list[dict[str, Any]] = []
        self.told: list[str] = []
        self.looks = 0
        self._looking = ExitStack()
        self._tallies: dict[str, Tally] = {}

    def on_train_batch_start(self, trainer: pl.Trainer, module: Any, batch: Any, batch_idx: int) -> None:
        """Begin to look, if it is this batch's turn."""
        if batch_idx % self.every == 0:
            self._tallies = self._looking.enter_context(probe(self.network(module), membrane=False))

    def on_before_optimizer_step(self, trainer: pl.Trainer, module: Any, optimizer: Any) -> None:
        """Read the gradients of the epoch's last batch."""
        if trainer.is_last_batch:
            self.gradients = gradient_rms(self.network(module))

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Judge what was seen.

        Raises:
            NumericsError: layers stay dead or saturated, and the run is to be stopped.
        """
        self._looking.close()
        tallies, self._tallies = self._tallies, {}
        if not tallies:
            return
        self.layers = layer_reports(self.network(module), tallies)
        self.last = layer_rows(self.layers)
        averages = getattr(module, "training_averages", None)
        if averages is not None:
            rate = sum(layer.rate for layer in self.layers) / len(self.layers)
            averages.add({"firing_rate": torch.tensor(rate, device=module.device)}, 1)
        self._judge(trainer, module)

    def _judge(self, trainer: pl.Trainer, module: Any) -> None:
        verdict = judge(self.layers)
        dead = verdict.kind in ("silent", "saturated")
        if dead and self.silent_layers == "ignore":
            return
        where = f"epoch {trainer.current_epoch + 1}, step {trainer.global_step}"
        if verdict.kind != "healthy" and verdict.kind not in self.told and trainer.is_global_zero:
            self.told.append(verdict.kind)
            self.tell(f"{where}: {verdict.sentence}")
        if self.silent_layers != "stop":
            return
        everywhere = trainer.strategy.reduce(torch.tensor(float(dead), device=module.device), reduce_op="sum")
        self.looks = self.looks + 1 if int(everywhere) == trainer.world_size else 0
        if self.looks >= PATIENCE:
            raise NumericsError(
                f"{verdict.sentence} ({where}, as {PATIENCE - 1} looks before); the checkpoint is kept. Try another "
                "optimizer.lr, neuron.threshold or a wider neuron.surrogate; with --resume and "
                "training.silent_layers=warn it goes on"
            )

    def on_train_epoch_end(self, trainer: pl.Trainer, module: Any) -> None:
        """Note the last look of the epoch."""
        self.rows += [{"epoch": trainer.current_epoch + 1} | row for row in self.last]
        if self.path is not None and trainer.is_global_zero and self.rows:
            write_csv(self.path, self.rows)

    def on_exception(self, trainer: pl.Trainer, module: Any, exception: BaseException) -> None:
        """Take the hooks off."""
        self._looking.close()

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run must know."""
        return {"rows": self.rows, "last": self.last, "told": self.told, "looks": self.looks}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up where the checkpoint left off."""
        self.rows, self.last, self.told = from_one(state["rows"]), list(state["last"]), list(state["told"])
        self.looks = state["looks"]


def from_one(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows with their epochs numbered from 1: the first versions wrote checkpoints that count from 0.

    Example:
        >>> from_one([{"epoch": 0}, {"epoch": 0}, {"epoch": 1}, {"epoch": 3}])
        [{'epoch': 1}, {'epoch': 1}, {'epoch': 2}, {'epoch': 3}]
    """
    if not any(row["epoch"] == 0 for row in rows):
        return list(rows)
    numbers = {epoch: number for number, epoch in enumerate(dict.fromkeys(row["epoch"] for row in rows), 1)}
    return [row | {"epoch": numbers[row["epoch"]]} for row in rows]
