"""Training: tasks, runs and their folders, optimizers, and a callback for other LightningModules.

Names that need Lightning are imported on first use, so that help and recipes do not load it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..markdown import markdown_table
from .folder import Row, RunFolder
from .gradient_mechanisms import RateShortcut, calibrates, check_gradient
from .interruption import SIGNALS, Interrupted
from .muon import Muon
from .optimizers import make_optimizer
from .same import MAY_CHANGE_ON_RESUME, flatten_entries, recipe_differences
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
from .training import Training

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
    from .health import Health
    from .numerics import NumericsError
    from .run import calibrate_task, fit
    from .task import Task, pair
    from .trainer import make_trainer, quiet_lightning, seeded

_LAZY = {
    "Classification": "classification",
    "ENERGY_COLUMNS": "energy",
    "ENERGY_SAMPLES": "energy",
    "Health": "health",
    "NumericsError": "numerics",
    "Task": "task",
    "calibrate_task": "run",
    "energy_line": "energy",
    "energy_rows": "energy",
    "fit": "run",
    "make_trainer": "trainer",
    "measure_task_energy": "energy",
    "memory_energy_line": "energy",
    "pair": "task",
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
    "layer_rows",
    "layer_table",
    "make_optimizer",
    "make_trainer",
    "markdown_table",
    "measure_task_energy",
    "memory_energy_line",
    "pair",
    "quiet_lightning",
    "recipe_differences",
    "seeded",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
