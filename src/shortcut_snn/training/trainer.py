"""Lightning's trainer as a recipe wants it."""

import logging
import warnings
from pathlib import Path

import lightning.pytorch as pl
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger

from .checkpoint import WholeCheckpoint
from .recipe import Recipe

PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def make_trainer(recipe: Recipe, folder: Path | None, callbacks: list[Callback], terminal: bool) -> pl.Trainer:
    """Return Lightning's trainer, without its chatter; TensorBoard's logs go into the folder.

    Raises:
        ValueError: devices that are not there, or another number of processes than the recipe says.
    """
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    # Known and harmless here: few workers, short epochs, a resumed run's folder that is not empty.
    warnings.filterwarnings("ignore", module="lightning")
    try:
        trainer = _trainer(recipe, folder, callbacks, terminal)
    except MisconfigurationException as error:
        raise ValueError(f"train.accelerator, devices, nodes or strategy: {error}") from None
    asked = recipe.train.devices * recipe.train.nodes
    if trainer.world_size != asked:
        raise ValueError(
            f"train.devices * train.nodes is {asked} and the number of processes {trainer.world_size}: start as many, "
            "with a train.strategy that takes them"
        )
    return trainer


def _trainer(recipe: Recipe, folder: Path | None, callbacks: list[Callback], terminal: bool) -> pl.Trainer:
    return pl.Trainer(
        accelerator=recipe.train.accelerator,
        devices=recipe.train.devices,
        num_nodes=recipe.train.nodes,
        strategy=recipe.train.strategy,
        precision=PRECISION[recipe.train.precision],  # type: ignore[arg-type]
        max_epochs=recipe.train.epochs,
        logger=TensorBoardLogger(folder, name="tensorboard", version="") if folder else False,
        callbacks=callbacks,
        enable_progress_bar=terminal,
        enable_model_summary=False,
        enable_checkpointing=folder is not None,
        num_sanity_val_steps=0,
        log_every_n_steps=10,
        use_distributed_sampler=False,
        plugins=[WholeCheckpoint()],
    )
