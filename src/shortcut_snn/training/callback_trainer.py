"""Reads and changes of a Trainer and a LightningModule that the callback needs."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback, WeightAveraging
from torch import nn
from torch.optim import Optimizer


def check_callbacks(trainer: pl.Trainer, callback: Callback) -> None:
    """Raise an error for an average of weights that would miss the branches."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    for index, other in enumerate(callbacks):
        if isinstance(other, WeightAveraging) and callback in callbacks[index:]:
            name = type(callback).__name__
            raise ValueError(
                f"{type(other).__name__} copies the module before {name} attaches branches: give the Trainer {name} "
                "first"
            )


def remove_from_averages(trainer: pl.Trainer, name: str) -> None:
    """Remove a submodule from the averages of weights that the Trainer keeps after training."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    for callback in callbacks:
        average: Any = getattr(callback, "_average_model", None)
        if isinstance(callback, WeightAveraging) and average is not None and hasattr(average.module, name):
            delattr(average.module, name)


def check_has_end(trainer: pl.Trainer) -> None:
    """Raise an error unless the number of training steps is known, which lambda needs."""
    total = trainer.estimated_stepping_batches
    if total < 0:
        raise ValueError("the training data have no length: give the Trainer max_steps or limit_train_batches")
    if not math.isfinite(total):
        raise ValueError("lambda needs the number of training steps: give the Trainer max_epochs or max_steps")


def progress(trainer: pl.Trainer, module: pl.LightningModule, by_epoch: bool = False) -> tuple[int, int]:
    """Return the number of steps that are done and of all steps: optimizer steps, or batches if a module steps itself.

    With ``by_epoch`` the numbers are those of epochs, if the training data have a length.
    """
    total = max(int(trainer.estimated_stepping_batches), 1)
    if by_epoch and math.isfinite(trainer.num_training_batches):
        # Training may end with max_steps.
        steps_per_epoch = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
        return trainer.current_epoch, math.ceil(total / max(steps_per_epoch, 1))
    if module.automatic_optimization:
        return trainer.global_step, total
    batches = trainer.fit_loop.epoch_loop.total_batch_idx, total
    if trainer.max_steps == -1:
        return batches
    # The Trainer counts the steps of all optimizers, and the estimate counts one for each batch. Training ends with the
    # steps or with the batches of all epochs.
    steps = trainer.global_step, trainer.max_steps
    return max(steps, batches, key=lambda end: end[0] / end[1]) if total < trainer.max_steps else steps


def add_to_optimizers(optimizers: Sequence[Optimizer], branches: nn.Module, network: nn.Module) -> None:
    """Add parameters of branches that no optimizer has to the group that trains most of the network.

    Groups are compared by parameters with as many axes: biases join biases, and weights join weights.
    """
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    trained = {id(parameter) for group in groups for parameter in group["params"]}
    of_network = {id(parameter) for parameter in network.parameters()}

    def share(group: dict[str, Any], axes: int) -> tuple[int, int]:
        sizes = [(p.dim() == axes, p.numel()) for p in group["params"] if id(p) in of_network]
        return sum(size for is_alike, size in sizes if is_alike), sum(size for _, size in sizes)

    for name, parameter in branches.named_parameters():
        if id(parameter) not in trained:
            # Not a group of its own: schedules of the learning rate know the groups that there are.
            group = max(groups, key=functools.partial(share, axes=parameter.dim()))
            group["params"].append(parameter)
            if "param_names" in group:
                group["param_names"].append(f"shortcut_branches.{name}")


def override(module: nn.Module, name: str, method: Callable[..., Any]) -> Callable[[], None]:
    """Give one module another method, and return a function that restores the original.

    Several callbacks may override the same method; each of them restores the original.
    """
    current = vars(module).get(name)
    original = getattr(current, "_original", current)
    method._original = original  # type: ignore[attr-defined]
    setattr(module, name, method)

    def restore() -> None:
        if original is None:
            vars(module).pop(name, None)
        else:
            setattr(module, name, original)

    return restore
