"""How far a Trainer is, which lambda follows."""

import math

import lightning.pytorch as pl


def check_ends(trainer: pl.Trainer) -> None:
    """See to it that the number of steps of a training is known before its first.

    Raises:
        ValueError: it is not.

    Example:
        >>> check_ends(pl.Trainer(max_epochs=-1, accelerator="cpu", logger=False))
        Traceback (most recent call last):
        ...
        ValueError: the balance needs the number of training steps: give the Trainer max_epochs or max_steps
    """
    total = trainer.estimated_stepping_batches
    needed = "the balance needs the number of training steps: give the Trainer "
    if total < 0:
        raise ValueError(f"{needed}max_steps, or limit_train_batches, since the training data do not tell their length")
    if not math.isfinite(total):
        raise ValueError(f"{needed}max_epochs or max_steps")


def progress(trainer: pl.Trainer, module: pl.LightningModule) -> tuple[int, int]:
    """Return how far training is, and how far it goes, in what the Trainer counts: optimizer steps or batches.

    Example:
        >>> trainer = pl.Trainer(max_steps=5, accelerator="cpu", logger=False)
        >>> progress(trainer, pl.LightningModule())  # before the first of five
        (0, 5)
    """
    total = max(int(trainer.estimated_stepping_batches), 1)
    if module.automatic_optimization:
        return trainer.global_step, total
    # Under manual optimization every optimizer's step counts, but only where the Trainer is given their number.
    batches, steps = trainer.fit_loop.epoch_loop.total_batch_idx, (trainer.global_step, trainer.max_steps)
    if trainer.max_steps == -1:
        return batches, total
    if trainer.max_epochs in (-1, None) or not math.isfinite(trainer.num_training_batches):
        return steps
    whole = max(int(trainer.num_training_batches) * (trainer.max_epochs or 1), 1)
    return max(steps, (batches, whole), key=lambda pair: pair[0] / pair[1])
