"""Training: tasks, runs and their folders, optimizers, and a callback for other LightningModules.

Names that need Lightning are imported on first use, so that help and recipes do not load it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

# Imported so that the loggers are registered.
from . import loggers  # noqa: F401
from .folder import Row, RunFolder
from .interruption import SIGNALS, Interrupted, handling_signals
from .muon import Muon
from .optimizers import make_optimizer
from .options import Training
from .provenance import MAY_CHANGE_ON_RESUME, Provenance, flatten_entries, recipe_differences
from .tables import (
    COLUMN_TITLES,
    LAYER_TABLE_LEGEND,
    Metric,
    column_title,
    format_duration,
    format_value,
    layer_rows,
    layer_table,
    read_rows,
)
from .trainer import position, read_checkpoint

if TYPE_CHECKING:
    from .callback import ShortcutCallback
    from .classification import Classification
    from .health import Health
    from .result import ENERGY_SAMPLES, energy_rows, measure_task_energy
    from .run import fit, initialise_task
    from .run_state import Run
    from .steps import NumericsError
    from .task import Task
    from .trainer import make_trainer, quiet_lightning, seeded

_WITH_LIGHTNING = ("callback", "task", "classification", "health", "steps", "trainer", "run_state", "run", "result")

__all__ = [
    "COLUMN_TITLES", "ENERGY_SAMPLES", "LAYER_TABLE_LEGEND", "MAY_CHANGE_ON_RESUME", "SIGNALS", "Classification",
    "Health", "Interrupted", "Metric", "Muon", "NumericsError", "Provenance", "Row", "Run",
    "RunFolder", "ShortcutCallback", "Task", "Training", "column_title", "energy_rows", "fit", "flatten_entries",
    "format_duration", "format_value", "handling_signals", "initialise_task", "layer_rows",
    "layer_table", "make_optimizer", "make_trainer", "measure_task_energy", "position", "quiet_lightning",
    "read_checkpoint", "read_rows", "recipe_differences", "seeded",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    for module in _WITH_LIGHTNING if name in __all__ else ():
        if hasattr(imported := import_module(f".{module}", __name__), name):
            return getattr(imported, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
