"""Recipes: the complete configuration of a run, read from files, presets and options, and built into objects."""

from .building import build, build_network, build_task, load_data, train
from .entries import (
    PRESETS,
    built_in,
    changed,
    from_dict,
    layer,
    merged,
    merged_layers,
    parse_options,
    recipe_of,
    write_recipe,
)
from .imports import import_components, missing_imports
from .recipe import Recipe
from .runs import check_data, keeps_result, load_network, load_run, open_run, run_recipe

__all__ = [
    "PRESETS",
    "Recipe",
    "build",
    "build_network",
    "build_task",
    "built_in",
    "changed",
    "check_data",
    "from_dict",
    "import_components",
    "keeps_result",
    "layer",
    "load_data",
    "load_network",
    "load_run",
    "merged",
    "merged_layers",
    "missing_imports",
    "open_run",
    "parse_options",
    "recipe_of",
    "run_recipe",
    "train",
    "write_recipe",
]
