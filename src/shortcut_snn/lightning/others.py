"""Callbacks of Lightning's own that do not go with branches, or not in any order."""

import lightning.pytorch as pl
from lightning.pytorch.callbacks import BatchSizeFinder, Callback, LearningRateFinder, WeightAveraging


def check_order(trainer: pl.Trainer, mine: Callback) -> None:
    """See to it that the Trainer's other callbacks leave the branches alone.

    Raises:
        ValueError: one does not.

    Example:
        >>> trainer = pl.Trainer(callbacks=[LearningRateFinder()], accelerator="cpu", logger=False)
        >>> check_order(trainer, Callback())
        Traceback (most recent call last):
        ...
        ValueError: LearningRateFinder leaves other callbacks out, so it would search without branches: ...
    """
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    for number, other in enumerate(callbacks):
        name = type(other).__name__
        if isinstance(other, LearningRateFinder | BatchSizeFinder):
            raise ValueError(
                f"{name} leaves other callbacks out, so it would search without branches: search with a Trainer that "
                f"has no {type(mine).__name__}, then train with one that has it, and no {name}"
            )
        if isinstance(other, WeightAveraging) and mine in callbacks[number:]:
            raise ValueError(
                f"{name} copies the module before {type(mine).__name__} has put branches beside it: give the Trainer "
                f"{type(mine).__name__} first, {name} behind it"
            )
