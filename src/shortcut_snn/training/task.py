"""A task: what is learned. A Lightning module with one model, its branches, one loss, its metrics, one optimizer."""

import random
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor, nn

from .. import components
from ..method import LinearDecay, LogitSum, Shortcut, takes_every_step
from .averages import Averages
from .optimizers import make_optimizer, parameter_groups, scheduler
from .training import Training


class Task(pl.LightningModule):
    """Trains a wrapped network with an objective and a lambda schedule; a subclass says what a batch and its loss are.

    What a subclass must have is :meth:`criterion`; :meth:`prepare` and :meth:`metrics` where the defaults do not suit.
    History, comparisons and reports go by :attr:`metric`.

    Args:
        model: the wrapper; ``model.network`` is what ships. A network alone is trained without branches.
        objective: how the outputs of network and branches make one loss.
        schedule: lambda, the weight of branches, as a function of (step, total steps).
        by_epoch: whether lambda changes at every epoch in place of every step.
        optimizer: a component, as ``components.optimizer.make("sgd", lr=0.1)``.
        lr_schedule: a component.
        training: warm-up, and what weight decay falls on.
        description: what a network must know of its data to be built again and used, for the network's file.

    Example:
        >>> import torch
        >>> from shortcut_snn import Shortcut, nets
        >>> from shortcut_snn.training import Classification
        >>> network = nets.spiking_resnet8(10, 2, width=4)
        >>> task = Classification(Shortcut(network, "stages", num_classes=10))
        >>> task.metric
        'accuracy'
    """

    metric: ClassVar[str] = "loss"
    """The figure that networks are chosen and compared by: a key of what :meth:`metrics` returns, or ``"loss"``."""
    higher_is_better: ClassVar[bool] = False
    fraction: ClassVar[bool] = False
    """Whether the metric is a fraction of 1, told as per cent."""
    readout: Any = "auto"
    """What makes predictions of the network's output; see :func:`shortcut_snn.attach`."""
    calibrate: bool = False
    """Whether surrogates are calibrated before the first step, where :func:`~.run.fit` is not told."""

    def __init__(
        self,
        model: nn.Module,
        *,
        objective: Any = None,
        schedule: Any = None,
        by_epoch: bool = False,
        optimizer: Any = None,
        lr_schedule: Any = None,
        training: Training | None = None,
        description: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.model = model if isinstance(model, Shortcut) else Shortcut(model, [], num_classes=1)
        self.objective = objective or LogitSum()
        self.every_step = takes_every_step(self.objective)
        self.schedule = schedule or LinearDecay()
        self.by_epoch = by_epoch
        self.optimizer_options = optimizer or components.optimizer.make("adamw", lr=0.001, weight_decay=0.02)
        self.lr_schedule = lr_schedule or components.lr_schedule.make("cosine")
        self.training_options = training or Training()
        self.describe(description or {})
        self.total_steps = 0
        self.finished = False
        """Whether it has been trained to its end: the branches are gone then."""
        self.training_averages = Averages()
        self.evaluation_averages = Averages()
        if self.every_step and not hasattr(self.model.network, "readout"):
            raise ValueError(
                f"the objective {self.objective} needs the logits of every time step, and a "
                f"{type(self.model.network).__name__} has no attribute readout that could be set to 'sequence'"
            )

    def describe(self, description: Mapping[str, Any]) -> None:
        """Take over what a network must know of its data."""
        self.description = dict(description)

    # What a subclass says.

    def prepare(self, batch: Any) -> tuple[Any, Any]:
        """Return what the network takes and the target, of a batch as the loader gives it, on the module's device."""
        return pair(batch)

    def criterion(self, prediction: Tensor, target: Any) -> Tensor:
        """Return the loss of one output, that of the network or of a branch: the mean over the batch."""
        raise NotImplementedError

    def metrics(self, prediction: Tensor, target: Any) -> dict[str, Tensor]:
        """Return figures besides the loss by name: means over the batch, 0-dimensional."""
        return {}

    def note(self, prediction: Tensor, target: Any) -> None:
        """Keep of a batch of test data what :meth:`tables` is made of; by default nothing."""

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Return what else was seen in the last pass over the test data: rows, by the name of a file in the folder."""
        return {}

    def count(self, target: Any) -> int:
        """Return how many samples a batch has.

        Of a target that is a mapping, a tuple or a list of tensors of one length, that length; of any other list, one
        for each entry.
        """
        if isinstance(target, Mapping):
            return self.count(next(iter(target.values())))
        if isinstance(target, tuple | list):
            lengths = {len(part) if isinstance(part, Tensor) and part.dim() else -1 for part in target}
            return lengths.pop() if len(lengths) == 1 and -1 not in lengths else len(target)
        return len(target)

    @property
    def chance(self) -> float | None:
        """What the metric is for a network that has learned nothing; None where nobody knows."""
        return None

    # What is the same for all.

    def ready(self, batch: Any) -> tuple[Any, Any]:
        """Return what the network takes and the target, of a batch from anywhere, on the module's device."""
        return self.prepare(self.transfer_batch_to_device(batch, self.device, 0))

    @contextmanager
    def as_trained(self) -> Iterator[None]:
        """Let the network give what the objective takes within a block: the logits of every step, if it wants these."""
        network: Any = self.model.network
        before = getattr(network, "readout", None)
        if self.every_step:
            network.readout, self.model.taps.every_step = "sequence", True
        try:
            yield
        finally:
            if self.every_step:
                network.readout, self.model.taps.every_step = before, False

    def loss_of(self, output: Any, target: Any, weight: float) -> Tensor:
        """Return the loss of the wrapper's output at a weight of the branches."""
        loss: Tensor = self.objective(output, target, weight, self.criterion)
        return loss

    def on_fit_start(self) -> None:
        """Find the number of steps, which the schedules need.

        Raises:
            ValueError: it is not that of the run which is resumed.
        """
        total = int(self.trainer.estimated_stepping_batches)
        if self.total_steps not in (0, total):
            raise ValueError(
                f"the checkpoint is of a run of {self.total_steps} steps in all, and these would be {total}: resume it "
                "with the data and the number of processes that it had"
            )
        self.total_steps = total

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
            self.log(name, value)

    @property
    def balance(self) -> float:
        """Lambda at the current step; 0 without branches."""
        if not self.model.branches:
            return 0.0
        if self.by_epoch:
            value: float = self.schedule(self.current_epoch, max(self.training_options.epochs, 1))
        else:
            value = self.schedule(self.global_step, max(self.total_steps, 1))
        return value

    def training_step(self, batch: Any, batch_index: int) -> Tensor:
        """Return the loss of a batch."""
        inputs, target = self.prepare(batch)
        early = self.training_options.early
        with ExitStack() as for_this_step:
            if early is not None and self.global_step < early.fraction * self.total_steps:
                for_this_step.enter_context(early.shorter(self.model.network, inputs))
                early.check_images(inputs, target)
                inputs = early.reduced(inputs)
            for_this_step.enter_context(self.as_trained())
            output = self.model(inputs)
        balance = self.balance
        loss = self.loss_of(output, target, balance)
        values = {"train_loss": loss}
        with torch.no_grad():
            main = self._readout(output.main)
            found = self.metrics(main, target)
            if self.metric not in ("loss", *found):
                raise ValueError(
                    f"{type(self).__name__}.metric is {self.metric!r}, which its metrics() does not return: "
                    f"{', '.join(found) or 'nothing'}"
                )
            values |= {f"train_{name}": value for name, value in found.items()}
            # What the objective makes of it, of several outputs or smoothed, is not the loss that validation reports.
            values["train_main_loss"] = self.evaluation_loss(main, target)
            branches = [self._readout(branch) for branch in output.branches]
            if branches and all(branch.shape == main.shape for branch in branches):
                # Where this is far above the main output's, the branches do the main output's work.
                summed = self.metrics(main + balance * sum(branches), target)
                values |= {f"train_{name}_with_branches": value for name, value in summed.items()}
        size = self.count(target)
        self.training_averages.add(values, size)
        self.log("lambda", balance, on_step=True, on_epoch=False, batch_size=size)
        return loss

    def _readout(self, prediction: Tensor) -> Tensor:
        """The mean over time of what the objective takes at every step."""
        return prediction.mean(0) if self.every_step else prediction

    def validation_step(self, batch: Any, batch_index: int) -> None:
        """Add up loss and metrics of the main output."""
        self._evaluate(batch, "validation")

    def test_step(self, batch: Any, batch_index: int) -> None:
        """Add up loss and metrics of the main output."""
        self._evaluate(batch, "test")

    def _evaluate(self, batch: Any, name: str) -> None:
        inputs, target = self.prepare(batch)
        prediction = self.model(inputs).main.float()
        values = {"loss": self.evaluation_loss(prediction, target), **self.metrics(prediction, target)}
        self.evaluation_averages.add({f"{name}_{key}": value for key, value in values.items()}, self.count(target))
        if name == "test":
            self.note(prediction, target)

    def evaluation_loss(self, prediction: Tensor, target: Any) -> Tensor:
        """Return the loss that is reported of validation and test data; by default the criterion's."""
        return self.criterion(prediction, target)

    def on_validation_epoch_start(self) -> None:
        """Begin the averages of a pass over the validation data."""
        self.evaluation_averages.clear()

    def on_test_epoch_start(self) -> None:
        """Begin the averages of a pass over the test data."""
        self.evaluation_averages.clear()

    def on_validation_epoch_end(self) -> None:
        """Log loss and metrics of the main output."""
        self.log_dict(self.evaluation_averages.means(self.sum_over_processes))

    def on_test_epoch_end(self) -> None:
        """Log loss and metrics of the main output."""
        self.log_dict(self.evaluation_averages.means(self.sum_over_processes))

    def configure_optimizers(self) -> Any:
        """Return the optimizer, and the schedule of its learning rate, step by step."""
        options = self.training_options
        groups = parameter_groups(self.model, options.decay == "all")
        optimizer = make_optimizer(self.optimizer_options, groups)
        steps = int(self.trainer.estimated_stepping_batches)
        built = scheduler(self.lr_schedule, optimizer, steps, options.warmup)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": built, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the averages of the epoch, and the random state, for networks that draw numbers as they run."""
        checkpoint["averages"] = self.training_averages.sums(self.sum_over_processes)
        checkpoint["total_steps"] = self.total_steps
        checkpoint["rng"] = torch.get_rng_state()
        numpy_state: Any = np.random.get_state()
        checkpoint["rng_numpy"] = [numpy_state[0], numpy_state[1].tolist(), *numpy_state[2:]]
        version, numbers, gauss = random.getstate()
        checkpoint["rng_python"] = [version, list(numbers), gauss]
        if torch.cuda.is_available():
            checkpoint["rng_cuda"] = torch.cuda.get_rng_state_all()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put the averages and the random state back."""
        # The module is moved to its device later than this.
        device = self.trainer.strategy.root_device
        self.training_averages.load(checkpoint.get("averages", {}), device, self.trainer.is_global_zero)
        self.total_steps = checkpoint.get("total_steps", 0)
        torch.set_rng_state(checkpoint["rng"].cpu())
        np.random.set_state(tuple(checkpoint["rng_numpy"]))
        version, numbers, gauss = checkpoint["rng_python"]
        random.setstate((version, tuple(numbers), gauss))
        if torch.cuda.is_available() and "rng_cuda" in checkpoint:
            # There may be fewer devices than there were.
            for index, state in enumerate(checkpoint["rng_cuda"][: torch.cuda.device_count()]):
                torch.cuda.set_rng_state(state.cpu(), index)


def pair(batch: Any) -> tuple[Any, Any]:
    """Return the inputs and the target of a batch that consists of these.

    Raises:
        ValueError: it does not.
    """
    if isinstance(batch, tuple | list) and len(batch) == 2:
        return batch[0], batch[1]
    several = isinstance(batch, tuple | list | Mapping)
    got = f"a {type(batch).__name__}" + (f" of {len(batch)}" if several else "")
    raise ValueError(
        f"a sample is (input, target), and this data gives batches that are {got}: say in the prepare() of a task of "
        "your own what of it is which"
    )
