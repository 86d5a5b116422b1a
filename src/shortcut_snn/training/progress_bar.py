"""Lightning's progress bar for the terminal of a run."""

import sys
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import TQDMProgressBar
from tqdm import tqdm

from .tables import Metric


class RunProgressBar(TQDMProgressBar):
    """Lightning's bar with the means of loss and metric over the epoch so far."""

    def __init__(self) -> None:
        # Reading the means makes a GPU wait, so not after every batch.
        super().__init__(refresh_rate=10, leave=False)

    def get_metrics(self, trainer: pl.Trainer, pl_module: Any) -> dict[str, Any]:
        """Return what the bar shows after its time."""
        if not trainer.training:
            return {}
        means = pl_module.train_means.local_means()
        metric = Metric(pl_module.metric, pl_module.higher_is_better, pl_module.fraction)
        shown = {"loss": f"{means['train_main_loss']:.3g}"} if "train_main_loss" in means else {}
        if f"train_{metric.name}" in means:
            shown[metric.title] = metric.format(means[f"train_{metric.name}"])
        return shown


def has_terminal() -> bool:
    """Return whether standard error is a terminal, on which a progress bar can be drawn."""
    return sys.stderr is not None and sys.stderr.isatty()


def log_above_bar(log: Callable[[str], None]) -> Callable[[str], None]:
    """Return a function that logs a line above the progress bar, which is drawn again below it."""

    def log_line(line: str) -> None:
        with tqdm.external_write_mode(file=sys.stdout):
            log(line)

    return log_line
