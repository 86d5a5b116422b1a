"""The method for a LightningModule that knows nothing of it: one callback in the Trainer's list."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.nn import functional as F

from .shortcut import Balance, LinearDecay, Shortcut, attach
from .shortcut.libraries import Reset, library_of
from .shortcut.readout import first_tensor

Criterion = Callable[[Tensor, Tensor], Tensor]


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

    @property
    def _name(self) -> str:
        return f"shortcut_branches_{self.network.replace('.', '_')}"

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
        setattr(pl_module, self._name, self._shortcut.branches)
        # torch notes on a hook of this kind who registered it, which a bound method does not allow.
        leave_out = functools.partial(self._leave_out)
        handles = [
            pl_module.register_state_dict_post_hook(leave_out),  # type: ignore[no-untyped-call]
            pl_module.register_load_state_dict_post_hook(self._do_not_miss),  # type: ignore[no-untyped-call]
            network.register_forward_pre_hook(self._before),
            network.register_forward_hook(self._after),
        ]
        self._undo = [taps.remove, *(handle.remove for handle in handles)]
        self._undo.append(lambda: delattr(pl_module, self._name))
        if self.objective == "loss_sum":
            pl_module.training_step = self._add_to(pl_module.training_step)  # type: ignore[method-assign]
            self._undo.append(lambda: delattr(pl_module, "training_step"))

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
        return self._added(output, self._lambda * sum(logits[1:], logits[0]))

    def _added(self, output: Any, logits: Tensor) -> Any:
        main = first_tensor(output)
        if main is None or main.dim() not in (2, 3):
            raise ValueError(
                f"the branches' logits cannot be added to what {self.network!r} gives: logits [N, classes], those of "
                "every time step, or a tuple that starts with them are needed; use objective='loss_sum'"
            )
        # To the logits of every step, so that it is there when the module averages them.
        added = main + (logits.unsqueeze(self._axis) if main.dim() == 3 else logits)
        return added if isinstance(output, Tensor) else (added, *output[1:])

    def _add_to(self, training_step: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(training_step)
        def step(batch: Any, *args: Any, **kwargs: Any) -> Any:
            outcome = training_step(batch, *args, **kwargs)
            loss = outcome.get("loss") if isinstance(outcome, Mapping) else outcome
            if not isinstance(loss, Tensor) or not self._logits:
                raise ValueError(
                    f"training_step must call {self.network!r} and return its loss for the branches' to be added to it"
                )
            # A network called once per time step gives the branches' logits of each.
            branches = [sum(calls[1:], calls[0]) / len(calls) for calls in zip(*self._logits, strict=True)]
            loss = loss + self._lambda * sum(self.criterion(logits, self.labels(batch)) for logits in branches)
            return {**outcome, "loss": loss} if isinstance(outcome, Mapping) else loss

        return step

    def _leave_out(self, module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
        for key in [key for key in state if key.startswith(f"{prefix}{self._name}.")]:
            del state[key]

    def _do_not_miss(self, module: nn.Module, keys: Any) -> None:
        keys.missing_keys[:] = [key for key in keys.missing_keys if not key.startswith(f"{self._name}.")]


def _second(batch: Any) -> Tensor:
    labels: Tensor = batch[1]
    return labels
