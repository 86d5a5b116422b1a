"""What can be said: recipes, presets, and how they become objects."""

from .build import build, load_run, open_run, train
from .entries import changed, recipe_of
from .imports import import_components
from .presets import PRESETS
from .recipe import Branches, Method, Recipe

__all__ = [
    "PRESETS",
    "Branches",
    "Method",
    "Recipe",
    "build",
    "changed",
    "import_components",
    "load_run",
    "open_run",
    "recipe_of",
    "train",
]
