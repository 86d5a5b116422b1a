"""Train deep spiking neural networks with shortcut back-propagation and evolutionary training.

Packages and names are imported on first use: a program that only runs a network loads nothing for training.
"""

import sys

# For ``python -m`` Python puts the current folder first: a file there that is called like a library would be run in its
# place. Before anything is imported, and only where it is this package that is run.
if (
    sys.argv[:1] == ["-m"]
    and not sys.flags.safe_path
    and sys.orig_argv[-len(sys.argv)].removeprefix("-m").partition(".")[0] == __name__
):
    del sys.path[0]

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0.dev0"

# Lightning imports onnxruntime where there is one. It and huggingface_hub report to their makers unless these are set.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from . import (
        components,
        data,
        deploy,
        diagnosis,
        energy,
        initialisation,
        introspection,
        measurement,
        method,
        nets,
        neurons,
        recipes,
        training,
    )
    from .attachment import attach
    from .data import as_data
    from .deploy import export_network, load
    from .diagnosis import diagnose
    from .energy import measure_energy
    from .initialisation import initialise
    from .measurement import firing_rates
    from .method import (
        TET,
        Constant,
        CosineDecay,
        FiringRatePenalty,
        LinearDecay,
        LogitSum,
        LossSum,
        SelfDistillation,
        Shortcut,
        ShortcutOutput,
        StepDecay,
        StepLossSum,
        TimeLoop,
    )
    from .recipes import Recipe, recipe_of, train
    from .training import Classification, Muon, RunFolder, ShortcutCallback, Task, Training, fit
    from .wrapping import wrap

_PACKAGES = (
    "components", "data", "deploy", "diagnosis", "energy", "initialisation", "introspection", "measurement", "method",
    "nets", "neurons", "recipes", "training",
)  # fmt: skip
_HOME = {
    "Classification": "training",
    "Muon": "training",
    "Recipe": "recipes",
    "RunFolder": "training",
    "ShortcutCallback": "training",
    "Task": "training",
    "Training": "training",
    "as_data": "data",
    "attach": "attachment",
    "diagnose": "diagnosis",
    "export_network": "deploy",
    "firing_rates": "measurement",
    "fit": "training",
    "initialise": "initialisation",
    "load": "deploy",
    "measure_energy": "energy",
    "recipe_of": "recipes",
    "train": "recipes",
    "wrap": "wrapping",
}
"""Where a name is at home that is not the method's."""

__all__ = [
    "TET", "Classification", "Constant", "CosineDecay", "FiringRatePenalty", "LinearDecay", "LogitSum", "LossSum",
    "Muon", "Recipe", "RunFolder", "SelfDistillation", "Shortcut", "ShortcutCallback", "ShortcutOutput",
    "StepDecay", "StepLossSum", "Task", "TimeLoop", "Training", "__version__", "as_data", "attach", "components",
    "data", "deploy", "diagnose", "diagnosis", "energy", "export_network", "firing_rates", "fit", "initialisation",
    "initialise", "introspection", "load", "measure_energy", "measurement", "method", "nets", "neurons",
    "recipe_of", "recipes", "train", "training", "wrap",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return import_module(f".{name}", __name__)
    if name in __all__:
        return getattr(import_module(f".{_HOME.get(name, 'method')}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
