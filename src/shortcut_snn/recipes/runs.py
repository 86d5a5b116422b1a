"""Open the folder of a run: its recipe, its network, its task with the data that it was trained on."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ..data import Data
from ..deploy.safetensors_files import load_into
from ..initialisation import set_surrogates
from ..method import Method
from ..training import RunFolder, Task
from ..training.provenance import MAY_CHANGE_ON_RESUME, flatten_entries, recipe_differences
from .building import build_network, build_task, load_data
from .entries import Recipe, from_dict, merged
from .imports import missing_imports


def load_run(
    folder: str | Path, weights: str = "last", changes: Mapping[str, Any] | None = None
) -> tuple[nn.Module, Recipe, dict[str, Any]]:
    """Return the network of a run in eval mode, the run's recipe, and the description of its data.

    Args:
        folder: the run's folder.
        weights: ``"last"`` or ``"best"``.
        changes: entries to lay over the run's recipe, such as a new folder of the data.

    Raises:
        FileNotFoundError: the folder holds no run, or the run has not saved its network yet.
        ValueError: damaged files, or components that are not imported.
    """
    run = RunFolder(folder)
    recipe = run_recipe(run, changes)
    network, description = load_network(recipe, run, weights)
    return network.eval(), recipe, description


def open_run(
    folder: str | Path, weights: str = "last", changes: Mapping[str, Any] | None = None
) -> tuple[Task, Data, Recipe]:
    """Return the network of a run in its task, without branches, the run's data, and its recipe.

    The arguments are those of :func:`load_run`.

    Raises:
        FileNotFoundError: the folder holds no finished run, or its data is missing.
        ValueError: damaged files, or data that differs from the run's.
    """
    run = RunFolder(folder)
    network, recipe, description = load_run(folder, weights, changes)
    differences = recipe_differences(run_recipe(run).to_dict(), recipe.to_dict()) if changes else {}
    for key in ("data.seed", "data.validation", "data.train_limit"):
        if key in differences and "data.kind" not in differences:
            raise ValueError(
                f"{key} decides which samples trained the network of {run}, and with another value they would be among "
                "those evaluated: leave it out"
            )
    data = load_data(recipe)
    check_data(run, description, data)
    without_branches = dataclasses.replace(recipe, method=Method(objective=recipe.method.objective))
    # The normalisation constants are those of the training data.
    return build_task(without_branches, data, network, description), data, recipe


def run_recipe(run: RunFolder, changes: Mapping[str, Any] | None = None) -> Recipe:
    """Return the recipe of a run, with changes laid over it."""
    entries = run.read_entries()
    if "network" not in entries:
        raise ValueError(f"{run.recipe} is damaged: it has no entry network; restore the file, or train again")
    if not isinstance(entries["network"], Mapping):
        raise ValueError(f"the run in {run} was started from Python, without a recipe: load it in Python")
    if isinstance(method := entries.get("method"), dict):
        # Entries of earlier versions, which only training used.
        method.pop("calibrate", None)
        if method.get("gradient") in ("rate", {"kind": "rate"}):
            del method["gradient"]
    try:
        recipe = from_dict(entries)
    except ValueError as error:
        hint = missing_imports(run.imports())
        raise ValueError(f"{run.recipe} is not a recipe: {error}{hint}") from None
    return from_dict(merged(entries, changes)) if changes else recipe


def load_network(
    recipe: Recipe, run: RunFolder, weights: str = "last", surrogates: bool = True
) -> tuple[nn.Module, dict[str, Any]]:
    """Return a recipe's network with the weights of a run, and the description of the run's data."""
    state, metadata = run.read_network(weights)
    path, description = run.network(weights), metadata["data"]
    part = path
    try:
        network = build_network(recipe, description)
        if surrogates:
            part = run.surrogates
            set_surrogates(network, run.read_surrogates())
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{part} is damaged, or does not fit the run's recipe: {error}") from None
    load_into(network, state, path)
    return network, dict(description)


def keeps_result(changes: Mapping[str, Any]) -> bool:
    """Return whether a run's result holds for its recipe with these changes; the data may have moved."""
    return {key for key, _ in flatten_entries(changes)} <= {"data.root", "data.cache", *MAY_CHANGE_ON_RESUME}


def check_data(run: RunFolder, description: Mapping[str, Any], data: Data) -> None:
    """Raise an error if data differs from the data that a run's network file describes."""
    now = data.description
    if list(now.get("classes", [])) != list(description.get("classes", [])):
        classes, previous = (", ".join(map(str, list(d.get("classes", []))[:5])) for d in (now, description))
        raise ValueError(f"the classes of the data are {classes}, those of the run were {previous}")
    # Runs of earlier versions have no hash of images in files.
    if description.get("split_sha256") not in (None, now.get("split_sha256")):
        raise ValueError(
            f"the samples or their split differ from those of the run, listed in {run.split}; training samples could "
            "be in the test set: restore them"
        )
