"""A task: a Lightning module with one wrapped network, its loss, metrics, optimizer and schedules."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any, ClassVar

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from .. import components
from .._utils.random_state import get_random_state, set_random_state
from ..deploy import quantised_weights
from ..measurement import firing_rates
from ..method import Layout, Method, Objective, Shortcut, method_named
from ..method.branch_weight import BranchWeight
from ..method.method import combine
from .optimizers import make_lr_scheduler, make_optimizer, parameter_groups
from .options import Training
from .trainer import count_steps, progress


class EpochMeans:
    """Means of named values over the samples of an epoch; unlike Lightning's, they outlast a stop within an epoch."""

    def __init__(self) -> None:
        self.totals: dict[str, Tensor] = {}
        """For each name: the sum over samples, and the number of samples."""

    def update(self, values: Mapping[str, Any], samples: int | Tensor) -> None:
        """Add 0-dimensional means over ``samples`` samples; names may differ from call to call."""
        for name, value in values.items():
            mean = torch.as_tensor(value).detach().float()
            if mean.dim():
                raise ValueError(f"{name} has the shape {list(mean.shape)}: return the mean over the batch, one number")
            count = torch.as_tensor(samples, dtype=mean.dtype, device=mean.device)
            # The mean of no samples is not a number.
            total = torch.stack([torch.where(count > 0, mean * count, 0.0), count])
            if name in self.totals:
                total = total + self.totals[name].to(total.device)
            self.totals[name] = total

    def means(self, strategy: Any = None) -> dict[str, float]:
        """Return the means over all processes of Lightning's strategy; without one, those of this process."""
        totals = self.totals if strategy is None else self.totals_of_all_processes(strategy)
        return {name: float(total[0] / total[1]) for name, total in totals.items()}

    def totals_of_all_processes(self, strategy: Any) -> dict[str, Tensor]:
        """Return the totals summed over all processes."""
        # Reduction happens in place.
        return {
            name: strategy.reduce(total.to(strategy.root_device, copy=True), reduce_op="sum")
            for name, total in self.totals.items()
        }


class Task(pl.LightningModule):
    """Trains a wrapped network with its method; a subclass defines batches, loss and metrics.

    A subclass must define :meth:`criterion`, and :meth:`prepare` and :meth:`metrics` where the defaults do not suit.
    The best epoch, comparisons and reports use the metric named :attr:`metric`.

    Args:
        model: the wrapper, whose ``network`` is deployed; or a network alone, which trains without branches.
        method: objective, branch weight and what else training needs, or the name of a preset; by default the
            wrapper's own, or else the paper's evolutionary training.
        objective: combines the outputs of network and branches into one loss, in place of the method's.
        branch_weight: lambda as a function of (step, total steps), in place of the method's.
        optimizer: a component, such as ``components.optimizer.make("sgd", lr=0.1)``.
        lr_schedule: a component.
        training: options of the run.
        description: what a network must know of its data to be built again and used; it is saved with the network.

    Raises:
        ValueError: the wrapper has another method, or the network cannot give the logits of every time step that the
            objective needs.

    Example:
        >>> import torch
        >>> from shortcut_snn import attach, nets
        >>> from shortcut_snn.training import Classification
        >>> network = nets.spiking_resnet8(10, 2, width=4)
        >>> task = Classification(attach(network, method="loss_sum", log=lambda line: None))
        >>> str(task.method)
        'branches at blocks, loss_sum, lambda linear from 0.25'
    """

    metric: ClassVar[str] = "loss"
    """The metric by which networks are chosen and compared: a key of what :meth:`metrics` returns, or ``"loss"``."""
    higher_is_better: ClassVar[bool] = False
    fraction: ClassVar[bool] = False
    """Whether the metric is a fraction, which is printed in per cent."""
    readout: Any = "auto"
    """How predictions are read from the network's output; see :func:`shortcut_snn.attach`."""

    def __init__(
        self,
        model: nn.Module,
        *,
        method: Method | str | None = None,
        objective: Objective | None = None,
        branch_weight: BranchWeight | None = None,
        optimizer: Any = None,
        lr_schedule: Any = None,
        training: Training | None = None,
        description: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.model = model if isinstance(model, Shortcut) else Shortcut(model, Layout())
        has_branches = len(self.model.branches) > 0
        given = method_named(method)
        self.model.method = combine(self.model.method, given, objective, branch_weight, has_branches=has_branches)
        optimizer = optimizer or components.optimizer.make("adamw", lr=0.001, weight_decay=0.02)
        self.optimizer_options = components.optimizer.check(optimizer)
        self.lr_schedule = components.lr_schedule.check(lr_schedule or components.lr_schedule.make("cosine"))
        self.training_options = training or Training()
        if not isinstance(self.training_options, Training):
            raise TypeError(f"training: pass Training(epochs=..., ...), got {training!r:.60}")
        self.describe(description or {})
        self.total_steps = self._steps_of_checkpoint = 0
        self.is_restored = False
        """Whether an initialisation comes from an earlier run, with its weights and surrogates."""
        self.is_finished = False
        """Whether training has ended and the branches are removed."""
        self.train_means, self.evaluation_means = EpochMeans(), EpochMeans()
        self.test_prefix = "test"
        """Put before the names of test metrics; the network of the best epoch is tested as ``test_best``."""

    @property
    def method(self) -> Method:
        """The method of the wrapper: objective, branch weight, penalty and initialisation."""
        assert self.model.method is not None
        return self.model.method

    def describe(self, description: Mapping[str, Any]) -> None:
        """Set what a network must know of its data."""
        self.description = dict(description)

    # A subclass defines these.

    def prepare(self, batch: Any) -> tuple[Any, Any]:
        """Return the network's input and the target of a loader's batch, which is on the module's device."""
        if isinstance(batch, tuple | list) and len(batch) == 2:
            return batch[0], batch[1]
        has_length = isinstance(batch, tuple | list | Mapping)
        kind = type(batch).__name__ + (f" of {len(batch)}" if has_length else "")
        raise ValueError(
            f"expected a batch (input, target), got a {kind}; define prepare() in a task of your own, which returns "
            "both"
        )

    def criterion(self, prediction: Tensor, target: Any) -> Tensor:
        """Return the loss of one output, the network's or a branch's: the mean over the batch."""
        raise NotImplementedError

    def metrics(self, prediction: Tensor, target: Any) -> dict[str, Tensor]:
        """Return metrics by name: 0-dimensional means over the batch."""
        return {}

    def evaluation_loss(self, prediction: Tensor, target: Any) -> Tensor:
        """Return the loss that is reported for validation and test data; by default the criterion's."""
        return self.criterion(prediction, target)

    def record_test_batch(self, prediction: Tensor, target: Any) -> None:
        """Record what :meth:`test_tables` needs of a batch of test data; by default nothing."""

    def test_tables(self) -> dict[str, list[dict[str, Any]]]:
        """Return tables of the last pass over the test data: rows by the name of a file in the run's folder."""
        return {}

    def count_samples(self, target: Any) -> int:
        """Return the number of samples of a batch.

        A mapping counts as its first value. A tuple or list of tensors of one length counts as that length; any other
        list has one entry per sample.
        """
        if isinstance(target, Mapping):
            return self.count_samples(next(iter(target.values())))
        if isinstance(target, tuple | list):
            lengths = {len(part) if isinstance(part, Tensor) and part.dim() else -1 for part in target}
            return lengths.pop() if len(lengths) == 1 and -1 not in lengths else len(target)
        return len(target)

    def count_labels(self, target: Any) -> int | Tensor:
        """Return the weight of a batch in the means of an epoch; by default the number of samples."""
        return self.count_samples(target)

    @property
    def chance(self) -> float | None:
        """The metric of a network that has learned nothing; None if unknown."""
        return None

    # The same for all tasks.

    def prepare_batch(self, batch: Any) -> tuple[Any, Any]:
        """Return input and target of a batch on any device, on the module's device."""
        return self.prepare(self.transfer_batch_to_device(batch, self.device, 0))

    def on_fit_start(self) -> None:
        """Set the total number of steps, which schedules need."""
        if self.method.initialise and self.model.initialisation is None and not self.is_restored:
            raise ValueError(
                "the method starts with a measured initialisation: train with fit, or call "
                "initialise(task.model, inputs, target) on a real batch first"
            )
        self.total_steps = count_steps(self.trainer)
        before, self._steps_of_checkpoint = self._steps_of_checkpoint, 0
        if before not in (0, self.total_steps):
            raise ValueError(
                f"the checkpoint is from a run of {before} steps, this one would have {self.total_steps}; resume with "
                "the same data and number of processes"
            )

    @property
    def current_branch_weight(self) -> float:
        """Lambda at the current step; 0 without branches."""
        branches = self.method.branches
        if branches is None or not self.model.branches:
            return 0.0
        if branches.by == "epoch":
            return self.model.branch_weight(*progress(self.trainer, self, by_epoch=True))
        return self.model.branch_weight(self.global_step, max(self.total_steps, 1))

    def training_step(self, batch: Any, batch_index: int) -> Tensor:
        """Return the loss of a batch."""
        inputs, target = self.prepare(batch)
        resizing = self.training_options.progressive_resizing
        with ExitStack() as stack:
            if resizing is not None and self.global_step < resizing.fraction * self.total_steps:
                stack.enter_context(resizing.fewer_time_steps(self.model.network, inputs))
                inputs = resizing.resize(inputs)
            stack.enter_context(self._rounded_weights())
            penalty = self.method.penalty
            rates = None if penalty is None else stack.enter_context(firing_rates(self.model.network))
            output = self.model(inputs)
        branch_weight = self.current_branch_weight
        loss = self.model.weighted_loss(output, target, branch_weight, self.criterion)
        if penalty is not None and rates is not None:
            loss = loss + penalty(rates)
        metrics = self._train_metrics(output, target, branch_weight)
        self.train_means.update({"train_loss": loss} | metrics, self.count_labels(target))
        self.log("lambda", branch_weight, on_step=True, on_epoch=False, batch_size=self.count_samples(target))
        factor = self._step_factor(batch_index)
        return loss if factor == 1 else factor * loss

    def _rounded_weights(self) -> AbstractContextManager[None]:
        bits = self.method.weight_bits
        return nullcontext() if bits is None else quantised_weights(self.model.network, bits)

    def _step_factor(self, batch_index: int) -> float:
        """Return the factor that makes the gradient of an epoch's last step a mean over its batches."""
        # Lightning divides the loss of every batch by ``accumulate``, but the last step may have fewer batches.
        accumulate, batches = self.trainer.accumulate_grad_batches, self.trainer.num_training_batches
        left_over = batches % accumulate
        return accumulate / left_over if left_over and batch_index >= batches - left_over else 1.0

    @torch.no_grad()
    def _train_metrics(self, output: Any, target: Any, branch_weight: float) -> dict[str, Tensor]:
        """Return loss and metrics of the network's own output, and metrics of its sum with the branches."""
        logits = (output.main, *output.branches)
        main, *branches = [each.mean(0) for each in logits] if self.method.needs_every_step else logits
        metrics = self.metrics(main, target)
        if self.metric not in ("loss", *metrics):
            raise ValueError(
                f"{type(self).__name__}.metric is {self.metric!r}, but metrics() returns {', '.join(metrics) or 'none'}"
            )
        values = {f"train_{name}": value for name, value in metrics.items()}
        values["train_main_loss"] = self.evaluation_loss(main, target)
        if branches and all(branch.shape == main.shape for branch in branches):
            # If these are far above the network's own, the branches do its work.
            summed = self.metrics(main + branch_weight * sum(branches), target)
            values |= {f"train_{name}_with_branches": value for name, value in summed.items()}
        return values

    def on_train_epoch_start(self) -> None:
        """Reset the means; Lightning calls this only for epochs that start, not for one that resumes."""
        self.train_means.totals = {}

    def on_train_epoch_end(self) -> None:
        """Log the means over the epoch's training batches and all processes."""
        self.log_dict(self.train_means.means(self.trainer.strategy))

    def validation_step(self, batch: Any, batch_index: int) -> None:
        """Add loss and metrics of a batch to the means."""
        with self._rounded_weights():
            self._evaluate(batch)

    def test_step(self, batch: Any, batch_index: int) -> None:
        """Add loss and metrics of a batch to the means; the weights are those of a file, which are rounded."""
        prediction, target = self._evaluate(batch)
        self.record_test_batch(prediction, target)

    def _evaluate(self, batch: Any) -> tuple[Tensor, Any]:
        inputs, target = self.prepare(batch)
        prediction = self.model(inputs).main.float()
        values = {"loss": self.evaluation_loss(prediction, target), **self.metrics(prediction, target)}
        self.evaluation_means.update(values, self.count_labels(target))
        return prediction, target

    def on_validation_epoch_start(self) -> None:
        """Reset the means."""
        self.evaluation_means.totals = {}

    on_test_epoch_start = on_validation_epoch_start

    def on_validation_epoch_end(self) -> None:
        """Log loss and metrics."""
        prefix = self.test_prefix if self.trainer.testing else "validation"
        means = self.evaluation_means.means(self.trainer.strategy)
        self.log_dict({f"{prefix}_{name}": value for name, value in means.items()})

    on_test_epoch_end = on_validation_epoch_end

    def configure_optimizers(self) -> Any:
        """Return the optimizer, and the learning rate's schedule by step."""
        options = self.training_options
        groups = parameter_groups(self.model, decay_all=options.weight_decay_on == "all")
        optimizer = make_optimizer(self.optimizer_options, groups)
        steps = count_steps(self.trainer)
        scheduler = make_lr_scheduler(self.lr_schedule, optimizer, steps, options.warmup)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add means of the epoch so far, and random states for networks that draw numbers."""
        checkpoint["train_means"] = self.train_means.totals_of_all_processes(self.trainer.strategy)
        checkpoint["total_steps"] = self.total_steps
        checkpoint["random_state"] = get_random_state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore means and random states."""
        # The means are those of all processes together.
        self.train_means.totals = checkpoint["train_means"] if self.trainer.is_global_zero else {}
        self._steps_of_checkpoint = checkpoint["total_steps"]
        set_random_state(checkpoint["random_state"])
