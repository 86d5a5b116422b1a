"""Test a trained network again, from the files of its run alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from ..analysis.calibrate import set_widths
from ..analysis.firing import firing_rates
from ..data import ImageData, Loaders, load, loaders
from ..deploy.describe import from_run
from ..deploy.weights import load_into, read_network
from ..nets import SpikingNetwork
from ..method import Constant, LogitSum, Shortcut
from . import build, recipe_io
from .calibration import widths_in
from .methods import resolved
from .module import ShortcutModule
from .recipe import Recipe
from .report import percent
from .resume import RECIPE
from .run import SPLIT, describe
from .trainer import make_trainer

FILES = {"last": "network.safetensors", "best": "best.safetensors"}


def load_run(folder: Path, weights: str = "last") -> tuple[SpikingNetwork, Recipe, dict[str, Any]]:
    """Rebuild a run's network.

    Args:
        folder: of the run.
        weights: ``"last"`` or ``"best"``.

    Returns:
        The network in eval mode, the run's recipe, and what the file says of its data.

    Raises:
        FileNotFoundError: no run there, or it has not come so far yet.
        ValueError: damaged files.
    """
    if not (folder / RECIPE).is_file():
        raise FileNotFoundError(f"{folder} holds no run (no {RECIPE})")
    recipe = recipe_io.read(folder / RECIPE)
    path = folder / FILES[weights]
    if not path.is_file():
        raise FileNotFoundError(f"no {path.name} in {folder}: the run is not finished; go on with train --resume")
    state, about = read_network(path)
    data = about.get("data", {})
    try:
        from_run(resolved(recipe).to_dict(), data)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} does not say what data it was trained on: {error}") from None
    network = build.network(recipe, len(data["classes"]), data["channels"])
    load_into(network, state, path)
    try:
        set_widths(network, widths_in(about))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    return network.eval(), recipe, data


def load_run_data(folder: Path, recipe: Recipe, about: Mapping[str, Any]) -> ImageData:
    """Read a run's data again.

    Args:
        folder: of the run.
        recipe: the run's.
        about: what its network file says of its data.

    Raises:
        FileNotFoundError: files are missing.
        ValueError: they are not those of the run.
    """
    data = load(recipe.data, recipe.network.time_steps)
    if list(data.class_names) != list(about["classes"]):
        raise ValueError(
            f"the data's classes are no longer those of the run: {_some(data.class_names)} now, "
            f"{_some(about['classes'])} then"
        )
    if describe(data).get("split_sha256") != about.get("split_sha256"):
        raise ValueError(
            f"the recordings of {recipe.data.root} or their split are no longer those of the run, which are listed in"
            f" {folder / SPLIT}"
        )
    return data


def open_run(folder: Path, weights: str = "last") -> tuple[ShortcutModule, Loaders, Recipe]:
    """Return a run's network in a module, without branches, with the data it was trained on.

    Raises:
        FileNotFoundError: no finished run there.
        ValueError: damaged files, or data that is no longer that of the run.
    """
    network, recipe, about = load_run(folder, weights)
    data = load_run_data(folder, recipe, about)
    if data.kind == "static":
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    # The constants of training, not those of data that may have changed since.
    module = ShortcutModule(
        Shortcut(network, [], num_classes=len(about["classes"])),
        LogitSum(),
        Constant(0.0),
        recipe.optimizer,
        tuple(about["mean"]),
        tuple(about["std"]),
    )
    return module, loaders(data, recipe.data, recipe.train.seed), recipe


def evaluate(folder: Path, weights: str = "last", split: str = "test") -> float:
    """Print loss, accuracy and firing rates of a run's network and return the accuracy."""
    module, batches, recipe = open_run(folder, weights)
    loader = batches.test if split == "test" else batches.validation
    if split == "validation" and not len(batches.validation):
        raise ValueError(f"the run in {folder} held out no validation data (data.validation: 0)")
    # One process: several would each start this program anew.
    alone = recipe_io.changed(recipe, {"train.devices": 1, "train.nodes": 1, "train.strategy": "auto"})
    trainer: pl.Trainer = make_trainer(alone, None, [], terminal=False)
    with firing_rates(module.model.network) as rates:
        result = trainer.test(module, loader, verbose=False)[0]
    print(f"{split} accuracy of {folder} ({weights} epoch): {percent(result['test_accuracy'])}")
    print(f"{split} loss: {result['test_loss']:.4f}")
    print("firing rates (spikes per neuron and time step, last batch):")
    for name, rate in rates.items():
        print(f"  {name:24} {rate.item():.4f}")
    return float(result["test_accuracy"])


def _some(names: Any) -> str:
    return ", ".join(map(str, list(names)[:5]))
