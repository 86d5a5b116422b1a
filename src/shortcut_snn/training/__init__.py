"""Training: tasks, runs and their folders, optimizers, and a callback for other LightningModules.

Names that need Lightning are imported on first use, so that help and recipes do not load it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..markdown import markdown_table

# Imported so that the loggers are registered.
from . import loggers  # noqa: F401
from .checkpoint import position, read_checkpoint
from .folder import Row, RunFolder
from .gradient_mechanisms import RateShortcut, calibrates, check_gradient
from .interruption import SIGNALS, Interrupted
from .muon import Muon
from .optimizers import make_optimizer
from .options import Training
from .provenance import Provenance
from .recipe_diff import MAY_CHANGE_ON_RESUME, flatten_entries, recipe_differences
from .tables import (
    COLUMN_TITLES,
    LAYER_TABLE_LEGEND,
    Metric,
    column_title,
    format_duration,
    format_value,
    layer_rows,
    layer_table,
)

if TYPE_CHECKING:
    from .classification import Classification
    from .energy import (
        ENERGY_COLUMNS,
        ENERGY_SAMPLES,
        energy_line,
        energy_rows,
        measure_task_energy,
        memory_energy_line,
    )
    from .finite_steps import NumericsError
    from .health import Health
    from .run import calibrate_task, fit
    from .task import Task, input_and_target
    from .trainer import make_trainer, quiet_lightning, seeded

_LAZY = {
    "Classification": "classification",
    "ENERGY_COLUMNS": "energy",
    "ENERGY_SAMPLES": "energy",
    "Health": "health",
    "NumericsError": "finite_steps",
    "Task": "task",
    "calibrate_task": "run",
    "energy_line": "energy",
    "energy_rows": "energy",
    "fit": "run",
    "make_trainer": "trainer",
    "measure_task_energy": "energy",
    "memory_energy_line": "energy",
    "input_and_target": "task",
    "quiet_lightning": "trainer",
    "seeded": "trainer",
}
"""The module of each name that needs Lightning."""

__all__ = [
    "COLUMN_TITLES",
    "ENERGY_COLUMNS",
    "ENERGY_SAMPLES",
    "LAYER_TABLE_LEGEND",
    "MAY_CHANGE_ON_RESUME",
    "SIGNALS",
    "Classification",
    "Health",
    "Interrupted",
    "Metric",
    "Muon",
    "NumericsError",
    "Provenance",
    "RateShortcut",
    "Row",
    "RunFolder",
    "Task",
    "Training",
    "calibrate_task",
    "calibrates",
    "check_gradient",
    "column_title",
    "energy_line",
    "energy_rows",
    "fit",
    "flatten_entries",
    "format_duration",
    "format_value",
    "input_and_target",
    "layer_rows",
    "layer_table",
    "make_optimizer",
    "make_trainer",
    "markdown_table",
    "measure_task_energy",
    "memory_energy_line",
    "position",
    "quiet_lightning",
    "read_checkpoint",
    "recipe_differences",
    "seeded",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
