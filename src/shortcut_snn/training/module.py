"""The Lightning module: one network, its branches, one optimizer, nothing else."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..method import Balance, Objective, Shortcut
from .averages import Averages
from .recipe import OptimizerConfig


class ShortcutModule(pl.LightningModule):
    """Trains a wrapped network with an objective and a balance schedule.

    Args:
        model: the wrapper; ``model.network`` is what ships.
        objective: the loss of a batch.
        balance: lambda as a function of (step, total steps): nothing of it is checkpointed.
        optimizer: its recipe.
        mean: of each channel on the scale 0 to 1, of event frames in events; images and frames arrive as bytes and are
            normalised on the device.
        std: likewise.
        every_step: whether the objective takes the logits of every time step, ``[T, N, num_classes]``. While it fits,
            the network gives those; before and after, their mean over time, as it is deployed.
    """

    def __init__(
        self,
        model: Shortcut,
        objective: Objective,
        balance: Balance,
        optimizer: OptimizerConfig,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        every_step: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self.objective = objective
        self.balance = balance
        self.optimizer_config = optimizer
        # Not in the checkpoint: they belong to the data.
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)
        self.total_steps = 0
        self.training_averages = Averages()
        self.evaluation_averages = Averages()
        self.every_step = every_step

    def prepare(self, images: Tensor) -> Tensor:
        """Turn a loader's bytes into normalised floats.

        Images ``[N, C, H, W]`` are levels of 0 to 255. Frames ``[N, T, C, H, W]`` are counts of events, and become
        ``[T, N, C, H, W]``.
        """
        if images.dim() == 5:
            return (images.transpose(0, 1).contiguous().to(self.mean.dtype) - self.mean) / self.std
        scaled = (images.to(self.mean.dtype) / 255 - self.mean) / self.std
        return scaled.contiguous(memory_format=torch.channels_last)

    def on_fit_start(self) -> None:
        """Find the number of steps, which the schedules need."""
        total = int(self.trainer.estimated_stepping_batches)
        if self.total_steps not in (0, total):
            raise ValueError(
                f"the checkpoint is of a run of {self.total_steps} steps in all, and these would be {total}: resume it "
                "with the data and the number of processes that it had"
            )
        self.total_steps = total
        if self.every_step:
            self.model.network.readout = "sequence"  # type: ignore[assignment]

    def on_fit_end(self) -> None:
        """Let the network give what it will give when deployed."""
        if self.every_step:
            self.model.network.readout = "mean"  # type: ignore[assignment]

    @contextmanager
    def as_in_training(self) -> Iterator[None]:
        """Let the network give what the objective takes within a block outside of fitting."""
        before = self.model.network.readout
        if self.every_step:
            self.model.network.readout = "sequence"  # type: ignore[assignment]
        try:
            yield
        finally:
            self.model.network.readout = before

    def sum_over_processes(self, values: Tensor) -> Tensor:
        """Add up a tensor over all processes."""
        total: Tensor = self.trainer.strategy.reduce(values.clone(), reduce_op="sum")
        return total

    def training_means(self) -> dict[str, float]:
        """Return what was averaged over the training batches of this epoch so far, over all processes."""
        means = self.training_averages.means(self.sum_over_processes)
        return {name: value.item() for name, value in means.items()}

    def on_train_epoch_start(self) -> None:
        """Begin an epoch's averages; an epoch that is resumed has its own back by now."""
        self.training_averages.clear()

    def on_train_epoch_end(self) -> None:
        """Log the epoch's averages."""
        for name, value in self.training_means().items():
            self.log(name, value, prog_bar=name != "train_accuracy_with_branches")

    def balance_now(self) -> float:
        """Return lambda at the current step."""
        return self.balance(self.global_step, max(self.total_steps, 1))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        """Return the loss of a batch."""
        images, labels = batch
        output = self.model(self.prepare(images))
        balance = self.balance_now()
        loss = self.objective(output, labels, balance)
        values = {"train_loss": loss, "train_accuracy": _accuracy(output.main, labels)}
        if output.branches:
            # Where this is far above the main output's accuracy, the branches do the main output's work.
            with torch.no_grad():
                summed = output.main + balance * sum(output.branches)
            values["train_accuracy_with_branches"] = _accuracy(summed, labels)
        self.training_averages.add(values, len(labels))
        self.log("lambda", balance, prog_bar=True, on_step=True, on_epoch=False, batch_size=len(labels))
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        """Add up loss and accuracy of the main output."""
        self._evaluate(batch, "validation")

    def test_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        """Add up loss and accuracy of the main output."""
        self._evaluate(batch, "test")

    def _evaluate(self, batch: tuple[Tensor, Tensor], name: str) -> None:
        images, labels = batch
        logits = _over_time(self.model(self.prepare(images)).main.float())
        values = {
            f"{name}_loss": F.cross_entropy(logits, labels),
            f"{name}_accuracy": _accuracy(logits, labels),
        }
        self.evaluation_averages.add(values, len(labels))

    def on_validation_epoch_start(self) -> None:
        """Begin the averages of a pass over the validation data."""
        self.evaluation_averages.clear()

    def on_test_epoch_start(self) -> None:
        """Begin the averages of a pass over the test data."""
        self.evaluation_averages.clear()

    def on_validation_epoch_end(self) -> None:
        """Log loss and accuracy of the main output."""
        self.log_dict(self.evaluation_averages.means(self.sum_over_processes), prog_bar=True)

    def on_test_epoch_end(self) -> None:
        """Log loss and accuracy of the main output."""
        self.log_dict(self.evaluation_averages.means(self.sum_over_processes))

    def configure_optimizers(self) -> Any:
        """AdamW or SGD, the learning rate falling to 0 over half a cosine, step by step."""
        config = self.optimizer_config
        groups = parameter_groups(self.model, config)
        optimizer: torch.optim.Optimizer
        if config.name == "adamw":
            optimizer = torch.optim.AdamW(groups, lr=config.lr)
        else:
            optimizer = torch.optim.SGD(groups, lr=config.lr, momentum=0.9)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=max(steps, 1))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the averages of the epoch, and the random state, for networks that draw numbers as they run."""
        checkpoint["averages"] = self.training_averages.sums(self.sum_over_processes)
        checkpoint["total_steps"] = self.total_steps
        checkpoint["rng"] = torch.get_rng_state()
        if torch.cuda.is_available():
            checkpoint["rng_cuda"] = torch.cuda.get_rng_state_all()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put the averages and the random state back."""
        # The module is moved to its device later than this.
        device = self.trainer.strategy.root_device
        self.training_averages.load(checkpoint.get("averages", {}), device, self.trainer.is_global_zero)
        self.total_steps = checkpoint.get("total_steps", 0)
        torch.set_rng_state(checkpoint["rng"].cpu())
        if torch.cuda.is_available() and "rng_cuda" in checkpoint:
            # There may be fewer devices than there were.
            for index, state in enumerate(checkpoint["rng_cuda"][: torch.cuda.device_count()]):
                torch.cuda.set_rng_state(state.cpu(), index)


def _accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    return (_over_time(logits).argmax(-1) == labels).float().mean()


def _over_time(logits: Tensor) -> Tensor:
    """Average the logits of every time step, if they are that."""
    return logits.mean(0) if logits.dim() == 3 else logits


def parameter_groups(model: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Split parameters into those that are decayed and those that are not (norms, biases, learned decays)."""
    if config.decay_all:
        return [{"params": list(model.parameters()), "weight_decay": config.weight_decay}]
    decayed = [p for p in model.parameters() if p.dim() > 1]
    kept = [p for p in model.parameters() if p.dim() <= 1]
    return [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]
