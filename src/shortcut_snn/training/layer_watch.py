"""A Lightning callback that looks at every spiking layer while training goes on."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from torch import nn

from ..analysis.layers import LayerReport, layer_reports
from ..analysis.probe import Tally, probe
from ..analysis.verdict import judge
from ..files import write_csv
from .layer_rows import layer_rows


class LayerWatch(Callback):
    """Firing, silence, saturation and gradient of every layer, every so many steps; a line when something is wrong.

    Gradients are taken at the spikes, so that kernels run as ever and training ends the same, watched or not. In fp16
    their size carries the loss scale; the factor between layers, by which they are judged, does not.

    Args:
        path: CSV file with the last look of each epoch; None writes nothing.
        every: steps of an epoch from one look to the next; a look costs a fraction of a step (studies/watch_cost.py).
        network: finds the network in the Lightning module; by default all of the module.
        tell: takes a line for a person, once for each kind of trouble.
        time_axis: see :func:`~..analysis.probe.probe`.
    """

    def __init__(
        self,
        path: Path | None = None,
        every: int = 50,
        network: Callable[[Any], nn.Module] = lambda module: module,
        tell: Callable[[str], None] = print,
        time_axis: int | None = 0,
    ) -> None:
        if every < 1:
            raise ValueError(f"every must be at least 1 step, got {every}")
        self.path, self.every, self.network, self.tell, self.time_axis = path, every, network, tell, time_axis
        self.layers: tuple[LayerReport, ...] = ()
        self.rows: list[dict[str, Any]] = []
        # Of the last look: an epoch may be resumed after its last one.
        self.last: list[dict[str, Any]] = []
        self.told: list[str] = []
        self._looking = ExitStack()
        self._tallies: dict[str, Tally] = {}

    def on_train_batch_start(self, trainer: pl.Trainer, module: Any, batch: Any, batch_idx: int) -> None:
        """Begin to look, if it is this batch's turn."""
        if batch_idx % self.every == 0:
            self._tallies = self._looking.enter_context(probe(self.network(module), self.time_axis, membrane=False))

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Judge what was seen."""
        self._looking.close()
        tallies, self._tallies = self._tallies, {}
        if not tallies:
            return
        self.layers = layer_reports(self.network(module), tallies)
        self.last = layer_rows(self.layers)
        verdict = judge(self.layers)
        if verdict.kind != "healthy" and verdict.kind not in self.told and trainer.is_global_zero:
            self.told.append(verdict.kind)
            self.tell(f"epoch {trainer.current_epoch + 1}, step {trainer.global_step}: {verdict.sentence}")

    def on_train_epoch_end(self, trainer: pl.Trainer, module: Any) -> None:
        """Note the last look of the epoch."""
        self.rows += [{"epoch": trainer.current_epoch} | row for row in self.last]
        if self.path is not None and trainer.is_global_zero:
            write_csv(self.path, self.rows)

    def on_exception(self, trainer: pl.Trainer, module: Any, exception: BaseException) -> None:
        """Take the hooks off."""
        self._looking.close()

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run must know."""
        return {"rows": self.rows, "last": self.last, "told": self.told}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up where the checkpoint left off."""
        self.rows, self.last, self.told = list(state["rows"]), list(state.get("last", [])), list(state["told"])
