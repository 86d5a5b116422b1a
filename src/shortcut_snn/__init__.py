"""Train deep spiking neural networks with shortcut back-propagation and evolutionary training.

Packages and names are imported on first use: a program that only runs a network loads nothing for training.
"""

from importlib import import_module

__version__ = "0.2.0.dev0"

# Not typing's: the library imports nothing before ``python -m shortcut_snn`` has corrected the path.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from . import components as components
    from . import data as data
    from . import deploy as deploy
    from . import diagnosis as diagnosis
    from . import energy as energy
    from . import initialisation as initialisation
    from . import introspection as introspection
    from . import measurement as measurement
    from . import method as method
    from . import nets as nets
    from . import neurons as neurons
    from . import recipes as recipes
    from . import training as training
    from .attachment import attach as attach
    from .data import as_data as as_data
    from .deploy import calibrate as calibrate
    from .deploy import export_network as export_network
    from .deploy import load as load
    from .diagnosis import diagnose as diagnose
    from .energy import measure_energy as measure_energy
    from .initialisation import initialise as initialise
    from .measurement import firing_rates as firing_rates
    from .method import TET as TET
    from .method import Constant as Constant
    from .method import CosineDecay as CosineDecay
    from .method import FiringRatePenalty as FiringRatePenalty
    from .method import LinearDecay as LinearDecay
    from .method import LogitSum as LogitSum
    from .method import LossSum as LossSum
    from .method import SelfDistillation as SelfDistillation
    from .method import Shortcut as Shortcut
    from .method import ShortcutOutput as ShortcutOutput
    from .method import StepLossSum as StepLossSum
    from .method import TimeLoop as TimeLoop
    from .recipes import Recipe as Recipe
    from .recipes import recipe_of as recipe_of
    from .recipes import train as train
    from .training import Classification as Classification
    from .training import Muon as Muon
    from .training import RunFolder as RunFolder
    from .training import ShortcutCallback as ShortcutCallback
    from .training import Task as Task
    from .training import Training as Training
    from .training import fit as fit
    from .wrapping import wrap as wrap

_PACKAGES = (
    "components", "data", "deploy", "diagnosis", "energy", "initialisation", "introspection", "measurement", "method",
    "nets", "neurons", "recipes", "training",
)  # fmt: skip
_NAMES = {
    "attachment": ("attach",),
    "data": ("as_data",),
    "deploy": ("calibrate", "export_network", "load"),
    "diagnosis": ("diagnose",),
    "energy": ("measure_energy",),
    "initialisation": ("initialise",),
    "measurement": ("firing_rates",),
    "method": (
        "TET", "Constant", "CosineDecay", "FiringRatePenalty", "LinearDecay", "LogitSum", "LossSum", "SelfDistillation",
        "Shortcut", "ShortcutOutput", "StepLossSum", "TimeLoop",
    ),
    "recipes": ("Recipe", "recipe_of", "train"),
    "training": ("Classification", "Muon", "RunFolder", "ShortcutCallback", "Task", "Training", "fit"),
    "wrapping": ("wrap",),
}  # fmt: skip
_HOMES = {name: home for home, names in _NAMES.items() for name in names}

__all__ = sorted(["__version__", *_PACKAGES, *_HOMES])


def __getattr__(name: str) -> "Any":
    if name in _PACKAGES:
        return import_module(f".{name}", __name__)
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
