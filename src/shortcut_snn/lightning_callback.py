"""The method for any LightningModule: one callback in the Trainer's list."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import BatchSizeFinder, Callback, LearningRateFinder, WeightAveraging
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from . import components
from .attachment import attach, method_named
from .diagnosis import set_widths
from .introspection import adapters_of, describe, library_reset
from .method import (
    BranchWeight,
    Criterion,
    LinearDecay,
    LogitSum,
    Objective,
    Readout,
    Reset,
    Shortcut,
    ShortcutOutput,
    like,
    takes_branches,
    takes_every_step,
    tensor_in,
)
from .neurons import packed_spikes

_PATIENCE = 10
"""The number of training batches without a call of the network after which the callback warns."""


class ShortcutCallback(Callback):
    """Trains a submodule of a LightningModule with shortcut branches; the module's loss, optimizer and metrics stay.

    With the objective ``"logit_sum"`` (the paper's) the network returns main + lambda * sum of branches to the module's
    ``training_step``. With any other objective it returns the main output, and the part of the objective that comes
    from the branches is added to the loss that ``training_step`` returns. Validation, test and prediction do not
    change.

    Lambda follows the share of optimizer steps that are done; under manual optimization, of training batches. Neurons
    that keep state are reset between batches. While the module trains, the branches are a submodule of it: its
    optimizer trains them and its checkpoints contain them. They are removed at the end.

    Args:
        network: name of the submodule to train, such as ``"net"`` for ``self.net``; ``""`` if the module itself is the
            network and its ``training_step`` calls ``self(x)``.
        taps: see :func:`shortcut_snn.attach`, like all of ``options``.
        method: a preset with branches, such as ``"calibrated"``, which sets taps, heads, objective and branch weight.
            If it calibrates surrogates, ``example`` must be real data with ``example_labels``.
        objective: combines outputs into a loss: an object such as ``LossSum(average=True)``, or the name of one; by
            default ``"logit_sum"``.
        branch_weight: lambda as a function of (step, total steps); by default ``LinearDecay()``.
        criterion: ``(prediction, target) -> loss``, for all objectives but ``"logit_sum"``.
        labels: returns the target of a batch, for these objectives; by default the batch's second entry.
        example: a batch as the network takes it; by default the module's ``example_input_array``.
        example_labels: labels of the example.
        pack: whether spikes are kept as bits for the backward pass; gradients are the same.
        options: other arguments of ``attach``, such as ``num_classes``, ``head``, ``reset``, ``channel_axis``, and
            ``loop="network"`` if one call of the network is a single time step, and the example one too.

    Raises:
        ValueError: the objective cannot be added to a module's loss, or the method has no branches. When training
            starts: the network cannot be wrapped, or the module cannot be trained in this way.

    Example:
        >>> from shortcut_snn import LossSum
        >>> callback = ShortcutCallback("net", objective=LossSum(average=True), branch_weight=LinearDecay(0.25))
        >>> trainer = pl.Trainer(callbacks=[callback], max_epochs=10, accelerator="cpu", logger=False)
    """

    def __init__(
        self,
        network: str,
        taps: str | int | Sequence[str] = "auto",
        *,
        method: str | None = None,
        objective: Objective | str | None = None,
        branch_weight: BranchWeight | None = None,
        criterion: Criterion = F.cross_entropy,
        labels: Callable[[Any], Tensor] | None = None,
        example: Any = None,
        example_labels: Tensor | None = None,
        pack: bool = False,
        **options: Any,
    ) -> None:
        if method is not None:
            preset = method_named(method)
            if preset.branches is None:
                raise ValueError(f"the method {method!r} has no branches, so this callback cannot train it")
            if objective is not None or branch_weight is not None:
                raise ValueError(f"the method {method!r} sets objective and branch_weight: leave them out")
            objective, branch_weight = preset.objective, preset.branches.branch_weight
        objective = "logit_sum" if objective is None else objective
        self.objective: Objective = components.objective.make(objective) if isinstance(objective, str) else objective
        if takes_every_step(self.objective) or not takes_branches(self.objective):
            name = type(self.objective).__name__
            raise ValueError(f"{name} does not use branches: use it in the module's own training_step")
        self.network, self.taps, self.options = network, taps, options
        self.method, self.example, self.example_labels, self.pack = method, example, example_labels, pack
        self.branch_weight: BranchWeight = LinearDecay() if branch_weight is None else branch_weight
        self.criterion, self.labels = criterion, labels or _second_entry
        self._shortcut: Shortcut | None = None
        self._target: nn.Module | None = None
        self._reset: Reset | None = None
        self._readout: Any = None
        self._undo: list[Callable[[], None]] = []
        # Of the current training batch.
        self._is_training = False
        self._lambda = 0.0
        self._calls: list[list[Tensor]] = []
        self._packing = ExitStack()
        # Batches since the start without a call of the network; -1 once it has been called.
        self._uncalled = 0

    @property
    def state_key(self) -> str:
        """A key of its own in the checkpoint for the callback of each network."""
        return f"{type(self).__name__}[{self.network}]"

    @property
    def _branches_name(self) -> str:
        return f"shortcut_branches_{self.network.replace('.', '_')}"

    # Attaching and removing the branches.

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Attach the branches after the module's own ``configure_model``, and before its optimizers are made."""
        self._remove()
        if stage == "fit":
            _check_callbacks(trainer, self)
        configure = pl_module.configure_model
        is_attached = False

        def configure_and_attach() -> None:
            nonlocal is_attached
            configure()
            # Lightning's weight averaging calls it as well.
            if not is_attached:
                is_attached = True
                self._attach(trainer, pl_module, stage)

        self._undo.append(_override(pl_module, "configure_model", configure_and_attach))

    def _attach(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._target = network = self._find_network(pl_module)
        if stage != "fit":
            self._reset = self._find_reset(network, pl_module)
            handle = pl_module.register_load_state_dict_pre_hook(self._drop_branches)  # type: ignore[no-untyped-call]
            self._undo.append(handle.remove)
            return
        if not (pl_module.automatic_optimization or isinstance(self.objective, LogitSum)):
            raise ValueError(
                f"{type(pl_module).__name__} uses manual optimization, where no loss can be added: use "
                "objective='logit_sum'"
            )
        if self._shortcut is None or self._shortcut.network is not network:
            example = pl_module.example_input_array if self.example is None else self.example
            example = like(example, next(network.parameters(), torch.empty(0)))
            log = print if trainer.is_global_zero else (lambda _: None)
            options = {"log": log, "labels": self.example_labels} | self.options
            self._shortcut = attach(network, self.taps, method=self.method, example=example, **options)
        self._reset, self._readout = self._shortcut._reset, self._shortcut.readout
        if isinstance(self._readout, Readout) and self._shortcut.run is not None:
            # The module has the time loop: one call returns the logits of one step.
            self._readout = replace(self._readout, time_axis=None)
        taps = self._shortcut.taps
        taps.install()
        handles = [
            network.register_forward_pre_hook(self._before_call),
            network.register_forward_hook(self._after_call),
        ]
        self._undo += [taps.remove, *(handle.remove for handle in handles)]
        pl_module.add_module(self._branches_name, self._shortcut.branches)
        self._undo.append(functools.partial(delattr, pl_module, self._branches_name))
        if not isinstance(self.objective, LogitSum):
            step = _with_added_loss(pl_module.training_step, self._branch_loss)
            self._undo.append(_override(pl_module, "training_step", step))

    def _drop_branches(self, module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
        """Ignore the branches of a checkpoint where they are not used."""
        for key in [key for key in state if key.startswith(f"{prefix}{self._branches_name}.")]:
            del state[key]

    def _find_network(self, pl_module: pl.LightningModule) -> nn.Module:
        try:
            return pl_module.get_submodule(self.network)
        except AttributeError:
            names = ", ".join(name for name, _ in pl_module.named_children())
            raise ValueError(
                f"{type(pl_module).__name__} has no submodule {self.network!r} when training starts; there are: {names}"
            ) from None

    def _find_reset(self, network: nn.Module, pl_module: pl.LightningModule) -> Reset | None:
        """Return what resets the network's state outside training."""
        reset, loop = self.options.get("reset", "auto"), self.options.get("loop", "auto")
        if reset != "auto":
            return reset  # type: ignore[no-any-return]
        if self._shortcut is not None and self._shortcut.network is network:
            return self._shortcut._reset
        example = pl_module.example_input_array if self.example is None else self.example
        adapters = adapters_of(network)
        if adapters or example is None or loop not in ("auto", "network"):
            return library_reset(adapters)
        return describe(network, example, loop=loop).reset

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let the optimizers train the branches if the module gave them the network's parameters only.

        Lightning loads the optimizers' state after this.
        """
        _check_has_end(trainer)
        assert self._shortcut is not None
        _add_to_optimizers(trainer.optimizers, self._shortcut.branches, self._shortcut.network)
        self._uncalled = 0

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Remove the branches; the module is as before, trained."""
        self._remove()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Remove the branches."""
        self._remove()

    def _remove(self) -> None:
        self._end_batch()
        while self._undo:
            self._undo.pop()()

    def state_dict(self) -> dict[str, Any]:
        """Return the calibrated surrogate widths; the branches are in the module's state."""
        return {} if self._shortcut is None else {"widths": dict(self._shortcut.widths or {})}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the calibrated surrogate widths."""
        if self._shortcut is not None and state_dict.get("widths"):
            self._shortcut.widths = state_dict["widths"]
            set_widths(self._shortcut.network, self._shortcut.widths)

    # Batches.

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Reset the network's state, and set lambda for this step."""
        self._reset_state()
        self._lambda = self.branch_weight(*_progress(trainer, pl_module))
        self._is_training, self._calls = True, []
        if self._uncalled >= 0:
            self._uncalled += 1

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Reset the state for layers that activation checkpointing recomputes.

        A module under manual optimization may continue with its states within a batch.
        """
        if pl_module.automatic_optimization:
            self._reset_state()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Release states and graphs; warn or raise if the network is never called.

        Raises:
            ValueError: ``training_step`` has returned None for all of the first batches.
        """
        self._end_batch()
        if self._uncalled == min(_PATIENCE, trainer.num_training_batches):
            self._uncalled = -1
            if not isinstance(self.objective, LogitSum):
                raise ValueError("training_step returned None for every batch so far; it must return its loss")
            name = repr(self.network) if self.network else "the module itself"
            rank_zero_warn(
                f"training_step has not called {name} with gradients, so its branches train nothing: call "
                f"{self._call_text}(x), not its forward(x) or its layers"
            )

    def on_validation_batch_start(self, *_: Any) -> None:
        """Reset the network's state."""
        self._reset_state()

    def on_test_batch_start(self, *_: Any) -> None:
        """Reset the network's state."""
        self._reset_state()

    def on_predict_batch_start(self, *_: Any) -> None:
        """Reset the network's state."""
        self._reset_state()

    def _reset_state(self) -> None:
        if self._reset is not None and self._target is not None:
            self._reset(self._target)

    def _end_batch(self) -> None:
        self._is_training, self._calls = False, []
        if self._shortcut is not None:
            # A failed forward pass leaves them active.
            self._shortcut.taps.cancel()
        self._packing.close()
        self._reset_state()

    # Calls of the network.

    @property
    def _call_text(self) -> str:
        return f"self.{self.network}" if self.network else "self"

    def _before_call(self, network: nn.Module, args: Any) -> None:
        if self._is_training and torch.is_grad_enabled() and self._shortcut is not None:
            self._shortcut.taps.start()
            if self.pack:
                self._packing.enter_context(packed_spikes(nn.Module.modules(network)))

    def _after_call(self, network: nn.Module, args: Any, output: Any) -> Any:
        """Compute the branches; return the output with their logits added, or keep them for the loss."""
        if self._shortcut is None or not self._shortcut.taps.active:
            return output
        self._packing.close()
        self._uncalled = -1
        tapped, readout = self._shortcut.taps.stop(), self._readout
        if isinstance(self.objective, LogitSum):
            has_readout = isinstance(readout, Readout)
            main = readout(output) if has_readout else tensor_in(output)
            logits = self._shortcut.predict(tapped, tapped[0] if main is None else main)
            branches = self._lambda * sum(logits[1:], logits[0])
            time_axis = 1 if self.options.get("time_axis") == 1 else 0
            return readout.add(output, branches) if has_readout else _add_logits(output, branches, time_axis)
        with torch.no_grad():
            main = output if readout is None else readout(output)
        self._calls.append([main.detach(), *self._shortcut.predict(tapped, main)])
        return output

    def _branch_loss(self, batch: Any) -> Tensor:
        """Return the part of the objective that comes from the branches."""
        if not self._calls:
            raise ValueError(f"training_step must call {self._call_text}(x), so that its branches have a loss")
        # An optimizer's closure may run several times in a batch.
        calls, self._calls = self._calls, []
        assert self._shortcut is not None
        if len(calls) > 1 and self._shortcut.run is None and self.options.get("loop") != "network":
            raise ValueError(
                f"training_step calls {self._call_text}(x) {len(calls)} times, so the labels are ambiguous: call it "
                "once, use objective='logit_sum', or pass loop='network' if a call is a time step"
            )
        main, *branches = [sum(logits[1:], logits[0]) / len(logits) for logits in zip(*calls, strict=True)]
        with_branches, without = (
            self.objective(output, self.labels(batch), self._lambda, self.criterion)
            for output in (ShortcutOutput(main, tuple(branches)), ShortcutOutput(main))
        )
        return with_branches - without


def _check_callbacks(trainer: pl.Trainer, callback: Callback) -> None:
    """Raise an error for callbacks of Lightning that would train without branches."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    name = type(callback).__name__
    for index, other in enumerate(callbacks):
        if isinstance(other, LearningRateFinder | BatchSizeFinder):
            raise ValueError(
                f"{type(other).__name__} disables other callbacks and so searches without branches: search with a "
                f"Trainer that has no {name}"
            )
        if isinstance(other, WeightAveraging) and callback in callbacks[index:]:
            raise ValueError(
                f"{type(other).__name__} copies the module before {name} attaches branches: give the Trainer {name} "
                "first"
            )


def _check_has_end(trainer: pl.Trainer) -> None:
    """Raise an error unless the number of training steps is known, which lambda needs."""
    total = trainer.estimated_stepping_batches
    if total < 0:
        raise ValueError("the training data have no length: give the Trainer max_steps or limit_train_batches")
    if not math.isfinite(total):
        raise ValueError("lambda needs the number of training steps: give the Trainer max_epochs or max_steps")


def _progress(trainer: pl.Trainer, module: pl.LightningModule) -> tuple[int, int]:
    """Return the number of steps that are done and of all steps: optimizer steps or batches."""
    total = max(int(trainer.estimated_stepping_batches), 1)
    if module.automatic_optimization:
        return trainer.global_step, total
    batches = trainer.fit_loop.epoch_loop.total_batch_idx
    if trainer.max_steps == -1:
        return batches, total
    # Under manual optimization the Trainer counts the steps of all optimizers, but only towards max_steps.
    steps = trainer.global_step, trainer.max_steps
    if trainer.max_epochs in (-1, None) or not math.isfinite(trainer.num_training_batches):
        return steps
    all_batches = max(int(trainer.num_training_batches) * (trainer.max_epochs or 1), 1)
    return max(steps, (batches, all_batches), key=lambda progress: progress[0] / progress[1])


def _add_to_optimizers(optimizers: Sequence[Optimizer], branches: nn.Module, network: nn.Module) -> None:
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


def _override(module: nn.Module, name: str, method: Callable[..., Any]) -> Callable[[], None]:
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


def _with_added_loss(training_step: Callable[..., Any], added_loss: Callable[[Any], Tensor]) -> Callable[..., Any]:
    """Return a ``training_step`` that adds ``added_loss(batch)`` to its loss, unless it returns None."""

    @functools.wraps(training_step)
    def step(batch: Any, *args: Any, **kwargs: Any) -> Any:
        outcome = training_step(batch, *args, **kwargs)
        if outcome is None:
            return None
        loss = outcome.get("loss") if isinstance(outcome, Mapping) else outcome
        if not isinstance(loss, Tensor):
            raise ValueError("training_step must return its loss, so that the branches' loss can be added")
        loss = loss + added_loss(batch)
        return {**outcome, "loss": loss} if isinstance(outcome, Mapping) else loss

    return step


def _add_logits(output: Any, logits: Tensor, time_axis: int) -> Any:
    """Add logits ``[N, classes]`` to an output: ``[N, classes]``, or of every time step, or first in a tuple.

    Logits of every time step get the whole sum at each step, so that it counts once in their mean.
    """
    main = tensor_in(output)
    if main is None or main.dim() - logits.dim() not in (0, 1):
        kind = type(output).__name__ if main is None else f"shape {tuple(main.shape)}"
        raise ValueError(
            f"the branches' logits cannot be added to the network's output, a {kind}: return logits, or use "
            "objective='loss_sum'"
        )
    added = main + (logits.unsqueeze(time_axis) if main.dim() > logits.dim() else logits)
    return added if isinstance(output, Tensor) else (added, *output[1:])


def _second_entry(batch: Any) -> Tensor:
    """Return the second entry of a batch, usually its labels."""
    if not isinstance(batch, Sequence) or len(batch) < 2:
        raise ValueError(f"a batch is a {type(batch).__name__}, not a pair: pass labels=..., which returns its labels")
    labels: Tensor = batch[1]
    return labels
