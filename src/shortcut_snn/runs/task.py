"""A task: what is learned. A Lightning module with one model, its branches, one loss, its metrics, one optimizer."""

import random
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Annotated, Any, ClassVar

import lightning.pytorch as pl
import numpy as np
import torch
from annotated_types import Ge, Lt
from torch import Tensor, nn
from torch.nn import functional as F

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
        >>> from shortcut_snn.runs import Classification
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
        self.description = dict(description or {})
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

    # What a subclass says.

    def prepare(self, batch: Any) -> tuple[Any, Any]:
        """Return what the network takes and the target, of a batch as the loader gives it, on the module's device."""
        inputs, target = batch
        return inputs, target

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
        """Return how many samples a batch has."""
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
            if output.branches:
                # What the objective makes of several outputs is not the loss that validation reports.
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


UNLABELLED = -100
"""The label that cross-entropy leaves out."""


@components.task("classification")
class Classification(Task):
    """One class an image or recording: cross-entropy, accuracy.

    Labels are numbers of classes, integers ``[N]`` from 0, or probabilities of all classes, floats ``[N, classes]``.

    Args:
        model: see :class:`Task`, as all of ``options``.
        label_smoothing: how much of the target is spread over all classes, from 0 to below 1.

    Example:
        >>> import torch
        >>> from shortcut_snn import nets
        >>> task = Classification(nets.spiking_resnet8(2, 2, width=2), label_smoothing=0.1)
        >>> float(task.metrics(torch.tensor([[0.0, 1.0], [0.0, 1.0]]), torch.tensor([1, 0]))["accuracy"])
        0.5
    """

    metric = "accuracy"
    higher_is_better = True
    fraction = True

    def __init__(
        self, model: nn.Module, *, label_smoothing: Annotated[float, Ge(0), Lt(1)] = 0.0, **options: Any
    ) -> None:
        super().__init__(model, **options)
        self.label_smoothing = label_smoothing
        self.confusion: Tensor | None = None
        """How often each class (rows) was taken for which, in the last pass over test data."""
        # Not in the checkpoint: they belong to the data.
        self.mean: Tensor | None
        self.std: Tensor | None
        for name in ("mean", "std"):
            values = self.description.get(name)
            tensor = None if values is None else torch.tensor(tuple(values)).view(-1, 1, 1)
            self.register_buffer(name, tensor, persistent=False)

    def prepare(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Turn a loader's bytes into normalised floats, on the device; what is no image of ours passes as it is.

        Images ``[N, C, H, W]`` are levels of 0 to 255. Frames ``[N, T, C, H, W]`` are counts of events, and become
        ``[T, N, C, H, W]``.
        """
        images, labels = batch
        if isinstance(labels, Tensor) and not labels.is_floating_point():
            labels = labels.long()
        if self.mean is None or self.std is None or images.dtype != torch.uint8:
            return images, labels
        if self.description.get("kind") == "events":
            return (images.transpose(0, 1).contiguous().to(self.mean.dtype) - self.mean) / self.std, labels
        scaled = (images.to(self.mean.dtype) / 255 - self.mean) / self.std
        return scaled.contiguous(memory_format=torch.channels_last), labels

    def criterion(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the cross-entropy of logits ``[N, classes]``, the classes smoothed.

        Raises:
            ValueError: labels that are no classes of these.
        """
        return _cross_entropy(prediction, target, self.label_smoothing)

    def evaluation_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the cross-entropy, unsmoothed: smoothing is a means of training.

        Raises:
            ValueError: labels that are no classes of these.
        """
        return _cross_entropy(prediction, target)

    def metrics(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return the accuracy."""
        return {"accuracy": (prediction.argmax(1) == _likeliest(target)).float().mean()}

    def on_test_epoch_start(self) -> None:
        """Begin to count, besides the averages."""
        super().on_test_epoch_start()
        self.confusion = None

    def note(self, prediction: Tensor, target: Tensor) -> None:
        """Count which class was taken for which."""
        classes = prediction.shape[1]
        right, taken = _likeliest(target).flatten(), prediction.argmax(1).flatten()
        # Labels outside, as the cross-entropy's -100, are of no class.
        known = (right >= 0) & (right < classes)
        pairs = torch.bincount(classes * right[known] + taken[known], minlength=classes**2).view(classes, classes)
        self.confusion = pairs if self.confusion is None else self.confusion + pairs

    def on_test_epoch_end(self) -> None:
        """Add up what all processes counted."""
        super().on_test_epoch_end()
        if self.confusion is not None:
            self.confusion = self.sum_over_processes(self.confusion)

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Return ``confusion``: how often each class was taken for which."""
        if self.confusion is None:
            return {}
        names = self.description.get("classes") or range(len(self.confusion))
        found = [(*place, int(self.confusion[tuple(place)])) for place in self.confusion.nonzero().tolist()]
        return {"confusion": [{"class": names[i], "predicted": names[j], "count": count} for i, j, count in found]}

    @property
    def chance(self) -> float | None:
        """One class in so many."""
        classes = self.description.get("classes")
        return 1 / len(classes) if classes else None


def _likeliest(target: Tensor) -> Tensor:
    """Numbers of classes, of labels that may be probabilities of all."""
    return target.argmax(1) if target.is_floating_point() else target


def _cross_entropy(prediction: Tensor, target: Tensor, smoothing: float = 0.0) -> Tensor:
    try:
        return F.cross_entropy(prediction, target, label_smoothing=smoothing)
    except (IndexError, RuntimeError, ValueError):
        # Only now: to look at every label would make an accelerator wait in every step.
        count, floats = prediction.shape[1], target.is_floating_point()
        known = target[target != UNLABELLED]
        if target.shape == (prediction.shape if floats else prediction.shape[:1]) and (
            floats or ((known >= 0) & (known < count)).all()
        ):
            raise
        least_and_most = "" if floats or not len(known) else f", {int(known.min())} to {int(known.max())}"
        raise ValueError(
            f"labels of {count} classes are integers [N] from 0 to {count - 1}, or probabilities, floats [N, {count}]; "
            f"got {str(target.dtype).removeprefix('torch.')} {list(target.shape)}{least_and_most}"
        ) from None
