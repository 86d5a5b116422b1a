"""Recipes: the complete configuration of a run, read from files, presets and options, and built into objects."""

from .building import build, train
from .entries import Recipe, changed, parse_options, recipe_of
from .imports import import_components
from .runs import load_run, open_run

__all__ = [
    "Recipe",
    "build",
    "changed",
    "import_components",
    "load_run",
    "open_run",
    "parse_options",
    "recipe_of",
    "train",
]
