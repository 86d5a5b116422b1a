"""Train deep spiking neural networks with shortcut back-propagation and evolutionary training.

What a network, its neurons and the method need is here at once; what trains and ships needs the extra ``train`` and is
imported when it is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0.dev0"

from . import components, method, nets, neurons
from .method import (
    TET,
    Constant,
    CosineDecay,
    LinearDecay,
    LogitSum,
    LossSum,
    SelfDistillation,
    Shortcut,
    ShortcutOutput,
    StepDecay,
    TimeLoop,
    attach,
)

if TYPE_CHECKING:
    from . import analysis, data, deploy, recipes, runs
    from .analysis import calibrate, diagnose, measure_energy
    from .data import as_data
    from .deploy import export_network, load
    from .recipes import Recipe, recipe_of, train
    from .runs import Classification, RunFolder, Task, Training, fit

_LATER = {
    "analysis": ("calibrate", "diagnose", "measure_energy"),
    "data": ("as_data",),
    "deploy": ("export_network", "load"),
    "recipes": ("Recipe", "recipe_of", "train"),
    "runs": ("Classification", "RunFolder", "Task", "Training", "fit"),
}
"""Packages that are imported when they, or one of these names of theirs, are asked for."""

__all__ = [
    "TET",
    "Classification",
    "Constant",
    "CosineDecay",
    "LinearDecay",
    "LogitSum",
    "LossSum",
    "Recipe",
    "RunFolder",
    "SelfDistillation",
    "Shortcut",
    "ShortcutOutput",
    "StepDecay",
    "Task",
    "TimeLoop",
    "Training",
    "__version__",
    "analysis",
    "as_data",
    "attach",
    "calibrate",
    "components",
    "data",
    "deploy",
    "diagnose",
    "export_network",
    "fit",
    "load",
    "measure_energy",
    "method",
    "nets",
    "neurons",
    "recipe_of",
    "recipes",
    "runs",
    "train",
]


def __getattr__(name: str) -> Any:
    for package, names in _LATER.items():
        if name == package:
            return import_module(f".{name}", __name__)
        if name in names:
            return getattr(import_module(f".{package}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
