"""A run: from a recipe to a folder with everything that is known about it."""

import hashlib
import json
import math
import platform
import sys
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from importlib import metadata
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities import rank_zero_only

from .. import __version__
from ..analysis import plots
from ..analysis.gradients import shallow_to_deep
from ..data import ImageData, Loaders, load, loaders
from ..deploy.weights import load_into, read_network, save_network
from ..files import make_folder, remove_strays, write_csv, write_text
from ..neurons import keep_freed_memory
from . import build, recipe_io
from .calibration import WIDTHS, calibrate_module, resume_widths
from .callbacks import History, SaveRun, Watch
from .checkpoint import position, read_checkpoint
from .cost import StepCost, summary
from .exclusive import exclusive
from .interruption import Interruption
from .layer_watch import LayerWatch
from .methods import resolved
from .module import ShortcutModule
from .numerics import FiniteSteps, LivingLayers
from .operations import ENERGY, energy_rows, run_energy
from .recipe import Recipe
from .report import tell_result
from .resume import CHECKPOINT, RECIPE, RESULT, find_checkpoint
from .sync_norm import synchronise
from .trainer import make_trainer

SPLIT = "split.txt"


def train(recipe: Recipe, folder: Path, resume: bool = False, tell: Callable[[str], None] = print) -> dict[str, Any]:
    """Train as a recipe says and leave the run in a folder.

    The folder holds ``recipe.yaml``, ``environment.json``, ``metrics.csv``, ``gradients.csv``, ``layers.csv``,
    ``timing.csv``, ``energy.csv``, pictures, TensorBoard's logs, ``checkpoint.ckpt``, the networks that ship
    (``network.safetensors`` after the last epoch, ``best.safetensors`` of the epoch with the best validation accuracy)
    and ``result.json``; of recordings of events, ``split.txt`` says which were for training, validation and test;
    ``surrogates.json`` holds the widths of calibrated surrogates.

    Args:
        recipe: what to do.
        folder: where the run goes; created.
        resume: go on from the folder's checkpoint, or start if it has none; a finished run is not run again.
        tell: takes lines for a person.

    Returns:
        What ``result.json`` holds.

    Raises:
        ValueError: a recipe that makes no sense, data or a checkpoint that cannot be used, a loss that is NaN.
        FileNotFoundError: missing data.
        FileExistsError: the folder holds a run already and ``resume`` is false.
        Interrupted: a signal asked the run to stop; a resumed one goes on where it stopped.
    """
    interruption = Interruption()
    with interruption.listening(), ExitStack() as until_the_end:
        return _train(recipe, folder, resume, tell, interruption, until_the_end)


def _train(
    recipe: Recipe,
    folder: Path,
    resume: bool,
    tell: Callable[[str], None],
    interruption: Interruption,
    until_the_end: ExitStack,
) -> dict[str, Any]:
    recipe.check()
    # With several processes one speaks for all.
    tell = rank_zero_only(tell)
    # The others would meet what the first has written since.
    first = getattr(rank_zero_only, "rank", 0) == 0
    checkpoint = find_checkpoint(recipe, folder, resume) if first else _kept(folder, resume)
    if resume and (folder / RESULT).is_file():
        tell(f"{folder} is finished already")
        return read_result(folder)
    data = load(recipe.data, recipe.network.time_steps)
    if checkpoint is not None and data.split and (folder / SPLIT).read_text(encoding="utf-8") != data.split:
        raise ValueError(
            f"the recordings of {recipe.data.root} or their split are no longer those of the run, which are listed in"
            f" {folder / SPLIT}; put them back, or name another folder"
        )
    seed_everything(recipe)
    module = build.module(recipe, data)
    if data.kind == "static":
        module.model.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if recipe.train.sync_batchnorm and recipe.train.devices * recipe.train.nodes > 1:
        synchronise(module.model.network)
    about = {"recipe": resolved(recipe).to_dict(), "data": describe(data), "version": __version__}
    terminal = sys.stderr.isatty()
    watch, cost = Watch(), StepCost()
    history = History(folder, watch, cost, None if terminal else tell)
    layers = LayerWatch(folder / "layers.csv", network=lambda module: module.model.network, tell=tell)
    save = SaveRun(folder, history, about, interruption, recipe.train.checkpoint_every)
    numerics = [FiniteSteps(recipe.train.non_finite, tell), LivingLayers(watch.taken, recipe.train.silent_layers, tell)]
    trainer = make_trainer(recipe, folder, [*numerics, watch, cost, layers, history, save], terminal)
    if recipe.train.keep_freed_memory and trainer.strategy.root_device.type == "cpu":
        keep_freed_memory()
    batches = loaders(data, recipe.data, recipe.train.seed, trainer.global_rank, trainer.world_size)
    if checkpoint is not None and resolved(recipe).neuron.surrogate.calibrate:
        widths = resume_widths(module, folder)
    else:
        # Several processes have to find the same widths, to the last digit.
        device = trainer.strategy.root_device if trainer.world_size == 1 else "cpu"
        widths = calibrate_module(module, recipe, data, device)
    if widths:
        about["surrogate_widths"] = widths
    if trainer.is_global_zero:
        make_folder(folder)
        until_the_end.enter_context(exclusive(folder))
        remove_strays(folder)
        _describe_run(folder, recipe, data, widths)
    if checkpoint is not None:
        epoch, done = position(read_checkpoint(checkpoint))
        batches.sampler.begin(epoch, done * recipe.data.batch_size)
    validation = batches.validation if len(data.validation) else None
    trainer.fit(module, batches.train, validation, ckpt_path=checkpoint, weights_only=True)
    result = _finish(trainer, module, batches, folder, history, about)
    if trainer.is_global_zero:
        energy = run_energy(module, batches, recipe.network.time_steps)
        write_csv(folder / ENERGY, energy_rows(energy))
        result |= {"energy_pj": energy.energy, "relu_energy_pj": energy.relu_energy}
        if kept := data.train.storage():
            tell(kept)
        write_text(folder / RESULT, json.dumps(result, indent=2) + "\n")
        tell_result(result, folder, tell)
    return result


def _kept(folder: Path, resume: bool) -> Path | None:
    path = folder / CHECKPOINT
    return path if resume and path.is_file() else None


def seed_everything(recipe: Recipe) -> None:
    """Seed every random number generator and set the number of threads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pl.seed_everything(recipe.train.seed, workers=False, verbose=False)
    if recipe.train.threads is not None:
        torch.set_num_threads(recipe.train.threads)


def _finish(
    trainer: pl.Trainer,
    module: ShortcutModule,
    batches: Loaders,
    folder: Path,
    history: History,
    about: dict[str, Any],
) -> dict[str, Any]:
    """Test the last and the best network, prove that what ships is what was trained, draw the pictures."""
    quiet = {"verbose": False}
    last = trainer.test(module, batches.test, **quiet)[0]  # type: ignore[arg-type]
    if trainer.is_global_zero:
        save_network(module.model.network, folder / "network.safetensors", about)
    trainer.strategy.barrier()
    state, _ = read_network(folder / "best.safetensors")
    load_into(module.model.network, state, folder / "best.safetensors")
    best = trainer.test(module, batches.test, **quiet)[0]  # type: ignore[arg-type]
    state, _ = read_network(folder / "network.safetensors")
    load_into(module.model.network, state, folder / "network.safetensors")
    _prove_stripped(module, batches)
    ratios = [shallow_to_deep({k: v for k, v in row.items() if k != "epoch"}) for row in history.gradients]
    if trainer.is_global_zero:
        plots.curves(history.rows, folder / "curves.png", "accuracy", fraction=True)
        plots.by_layer(history.gradients, folder / "gradients.png", "gradients", "gradient RMS of the weights")
    seconds = sorted(row["seconds"] for row in history.seconds)
    return {
        "test_accuracy_last": last["test_accuracy"],
        "test_accuracy_best": best["test_accuracy"],
        "best_epoch": history.best_epoch + 1,
        "best_chosen_on": "validation" if "validation_accuracy" in history.rows[-1] else "nothing: no validation data",
        "validation_accuracy_last": history.rows[-1].get("validation_accuracy"),
        "validation_accuracy_best": history.best_accuracy if math.isfinite(history.best_accuracy) else None,
        "firing_rate": history.rows[-1].get("firing_rate", math.nan),
        "gradient_ratio_first_epoch": ratios[0],
        "gradient_ratio_last_epoch": ratios[-1],
        "seconds_per_epoch": seconds[len(seconds) // 2],
        "epochs": len(history.rows),
        **summary(history.seconds),
        "stripped_equals_trained": True,
    }


@torch.no_grad()
def _prove_stripped(module: ShortcutModule, batches: Loaders) -> None:
    """Check on a test batch that the stripped network gives the wrapper's main output, bit for bit."""
    images = module.prepare(next(iter(batches.test))[0].to(module.device))
    module.eval()
    wrapped = module.model(images).main
    stripped = module.model.strip().eval()
    if not torch.equal(stripped(images), wrapped):
        raise RuntimeError("the stripped network's outputs differ from the trained one's; please report this")


def read_result(folder: Path) -> dict[str, Any]:
    """Return a finished run's result.

    Raises:
        ValueError: the file is damaged.
    """
    path = folder / RESULT
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise ValueError(f"{path} is damaged; delete it and resume the run") from None
    if not isinstance(result, dict):
        raise ValueError(f"{path} is damaged; delete it and resume the run")
    return result


def describe(data: ImageData) -> dict[str, Any]:
    """Return what a network must know of its data to be used."""
    split = {"split_sha256": hashlib.sha256(data.split.encode()).hexdigest()} if data.split else {}
    return {
        "classes": list(data.class_names),
        "channels": data.channels,
        "image_size": list(data.image_size),
        "mean": list(data.mean),
        "std": list(data.std),
        "kind": data.kind,
    } | split


def _describe_run(folder: Path, recipe: Recipe, data: ImageData, widths: dict[str, float]) -> None:
    versions = {}
    for name in ("torch", "torchvision", "lightning", "numpy", "numba", "triton"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    environment = {
        "shortcut_snn": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "seed": recipe.train.seed,
        "versions": versions,
    }
    write_text(folder / "environment.json", json.dumps(environment, indent=2) + "\n")
    if data.split:
        write_text(folder / SPLIT, data.split)
    if widths:
        write_text(folder / WIDTHS, json.dumps(widths, indent=2) + "\n")
    # Last: a folder with a recipe is a run.
    recipe_io.write(recipe, folder / RECIPE)
