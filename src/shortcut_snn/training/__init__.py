"""Training: tasks, runs and their folders, optimizers, and a callback for other LightningModules.

Names that need Lightning are imported on first use, so that help and recipes do not load it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

# Importing these modules registers their components.
from . import loggers, optimizers  # noqa: F401
from .folder import RunFolder
from .interruption import Interrupted
from .optimizers import Muon
from .options import Training
from .tables import read_rows

if TYPE_CHECKING:
    from .callback import ShortcutCallback
    from .classification import Classification
    from .health import Health
    from .run import fit
    from .steps import NumericsError
    from .task import Task

_WITH_LIGHTNING = ("callback", "classification", "health", "run", "steps", "task")

__all__ = [
    "Classification", "Health", "Interrupted", "Muon", "NumericsError", "RunFolder", "ShortcutCallback", "Task",
    "Training", "fit", "read_rows",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    for module in _WITH_LIGHTNING if name in __all__ else ():
        if hasattr(imported := import_module(f".{module}", __name__), name):
            return getattr(imported, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
