"""The callback: puts branches beside a submodule while its LightningModule trains."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.nn import functional as F

from ..method import Balance, LinearDecay, Shortcut, attach
from ..method.libraries import Reset, library_of
from .counting import Criterion, add_logits, add_loss, mean_over_calls
from .unsaved import add_unsaved


class ShortcutCallback(Callback):
    """Trains a submodule of a LightningModule with shortcut branches; its loss, optimizer and metrics stay its own.

    While the module trains, the branches of ``network`` are computed beside it. With ``"logit_sum"`` the network gives
    main + lambda * sum of branches to the module's own ``training_step`` (the paper); with ``"loss_sum"`` it gives
    the main output, and lambda * sum of the branches' losses is added to the loss that ``training_step`` returns.
    In validation, test and prediction nothing is different. The balance follows ``trainer.global_step`` of
    ``trainer.estimated_stepping_batches``, so a resumed run needs nothing.

    Checkpoints keep the module's own state keys and load into it without this callback; the branches are kept
    in the callback's part. Neurons that keep state are reset between batches.

    Args:
        network: name of the submodule to train, as in ``"net"`` for ``self.net``.
        taps: see :func:`shortcut_snn.attach`, like all of ``options``.
        objective: how the branches count.
        balance: lambda as a function of (step, total steps).
        criterion: ``(logits, labels) -> loss`` of a branch, for ``"loss_sum"``.
        labels: takes a batch and returns the labels, for ``"loss_sum"``; by default the batch's second entry.
        example: a batch as the network takes it; by default the module's ``example_input_array``.
        options: the rest of ``attach``'s arguments: ``num_classes``, ``time_axis``, ``extract``, ``reset``, and
            ``loop``, if one call of the network is a single time step.

    Raises:
        ValueError: when training starts, if the network cannot be wrapped or the module cannot be trained so.
    """

    def __init__(
        self,
        network: str,
        taps: str | Sequence[str] = "stages",
        *,
        objective: Literal["logit_sum", "loss_sum"] = "logit_sum",
        balance: Balance | None = None,
        criterion: Criterion = F.cross_entropy,
        labels: Callable[[Any], Tensor] | None = None,
        example: Any = None,
        **options: Any,
    ) -> None:
        if objective not in ("logit_sum", "loss_sum"):
            raise ValueError(f"objective must be 'logit_sum' or 'loss_sum', got {objective!r}")
        self.network, self.taps, self.options = network, taps, options
        self.objective = objective
        self.balance = LinearDecay() if balance is None else balance
        self.criterion, self.labels = criterion, labels or _second
        self.example = example
        self._axis = 1 if options.get("time_axis") == 1 else 0
        self._shortcut: Shortcut | None = None
        self._target: nn.Module | None = None
        self._reset: Reset | None = None
        self._undo: list[Callable[[], None]] = []
        self._training = False
        self._lambda = 0.0
        self._logits: list[list[Tensor]] = []

    @property
    def state_key(self) -> str:
        """One callback for each of several networks."""
        return f"{type(self).__name__}[{self.network}]"

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Put the branches beside the network, before the module makes its optimizers."""
        self._detach()
        self._target = network = self._find(pl_module)
        reset = self.options.get("reset", "auto")
        self._reset = library_of(network).reset if reset == "auto" else reset
        if stage != "fit":
            return
        if self._shortcut is None or self._shortcut.network is not network:
            example = pl_module.example_input_array if self.example is None else self.example
            if isinstance(example, Tensor):
                example = example.to(next(network.parameters(), example).device)
            self._shortcut = attach(network, self.taps, example=example, **self.options)
        taps = self._shortcut.taps
        taps.install()
        handles = [network.register_forward_pre_hook(self._before), network.register_forward_hook(self._after)]
        self._undo = [taps.remove, *(handle.remove for handle in handles)]
        name = f"shortcut_branches_{self.network.replace('.', '_')}"
        self._undo.append(add_unsaved(pl_module, name, self._shortcut.branches))
        if self.objective == "loss_sum":
            pl_module.training_step = add_loss(pl_module.training_step, self._loss)  # type: ignore[method-assign]
            # Another callback, for another part of the module, may have wrapped it too and been taken off before.
            self._undo.append(lambda: vars(pl_module).pop("training_step", None))

    def _find(self, pl_module: pl.LightningModule) -> nn.Module:
        try:
            return pl_module.get_submodule(self.network)
        except AttributeError:
            names = ", ".join(name for name, _ in pl_module.named_children())
            raise ValueError(
                f"{type(pl_module).__name__} has no submodule {self.network!r} when training starts; there are: {names}"
            ) from None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See to it that the branches are trained, also where the module lists its network's parameters alone."""
        if not math.isfinite(trainer.estimated_stepping_batches):
            raise ValueError("the balance needs the number of training steps: give the Trainer max_epochs or max_steps")
        assert self._shortcut is not None
        groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
        there = {id(parameter) for group in groups for parameter in group["params"]}
        # No group of their own: a learning rate schedule has been told how many there are.
        groups[0]["params"].extend(p for p in self._shortcut.branches.parameters() if id(p) not in there)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Start from rest, with the lambda of this step."""
        self._rest()
        self._lambda = self.balance(trainer.global_step, max(int(trainer.estimated_stepping_batches), 1))
        self._training, self._logits = True, []

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Let recomputed layers start from rest too."""
        self._rest()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Leave neither states nor graphs behind."""
        self._quiet()

    def on_validation_batch_start(self, *_: Any) -> None:
        """Start from rest."""
        self._rest()

    def on_test_batch_start(self, *_: Any) -> None:
        """Start from rest."""
        self._rest()

    def on_predict_batch_start(self, *_: Any) -> None:
        """Start from rest."""
        self._rest()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Leave the module as it was, trained."""
        self._detach()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Leave the module as it was, too."""
        self._detach()

    def _detach(self) -> None:
        self._quiet()
        while self._undo:
            self._undo.pop()()

    def state_dict(self) -> dict[str, Any]:
        """Return the branches' weights."""
        return {} if self._shortcut is None else dict(self._shortcut.branches.state_dict())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Put the branches' weights back."""
        if self._shortcut is not None:
            self._shortcut.branches.load_state_dict(state_dict)

    def _quiet(self) -> None:
        self._training, self._logits = False, []
        if self._shortcut is not None:
            # After a forward pass that failed they are still listening.
            self._shortcut.taps.cancel()
        self._rest()

    def _rest(self) -> None:
        if self._reset is not None and self._target is not None:
            self._reset(self._target)

    def _before(self, network: nn.Module, args: Any) -> None:
        if self._training and torch.is_grad_enabled() and self._shortcut is not None:
            self._shortcut.taps.start()

    def _after(self, network: nn.Module, args: Any, output: Any) -> Any:
        if self._shortcut is None or not self._shortcut.taps.active:
            return output
        pooled = self._shortcut.taps.stop()
        logits = [branch(x) for branch, x in zip(self._shortcut.branches, pooled, strict=True)]
        if self.objective == "loss_sum":
            self._logits.append(logits)
            return output
        return add_logits(output, self._lambda * sum(logits[1:], logits[0]), self._axis)

    def _loss(self, batch: Any) -> Tensor:
        if not self._logits:
            raise ValueError(
                f"training_step must call {self.network!r} for its branches' losses to be added to its own"
            )
        losses = [self.criterion(logits, self.labels(batch)) for logits in mean_over_calls(self._logits)]
        return self._lambda * sum(losses[1:], losses[0])


def _second(batch: Any) -> Tensor:
    labels: Tensor = batch[1]
    return labels
