"""The method for any LightningModule: one callback in the Trainer's list."""

import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from .. import components
from .._utils.calls import like
from ..attachment import attach, check_known
from ..initialisation import set_surrogates
from ..introspection.adapters import find_adapters, library_reset
from ..method import LogitSum, Method, Objective, Readout, Shortcut, ShortcutOutput, method_named
from ..method.branch_weight import BranchWeight
from ..method.method import combine
from ..method.targets import Criterion
from .trainer import (
    add_to_optimizers,
    check_callbacks,
    count_steps,
    override,
    progress,
    remove_from_averages,
)


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
        method: a method with branches, or the name of a preset such as ``"loss_sum"``; by default the paper's
            evolutionary training. If it initialises, ``example`` must be real data with ``example_labels``.
        objective: combines outputs into a loss, in place of the method's: an object such as ``LossSum(average=True)``,
            or the name of one.
        branch_weight: lambda as a function of (step, total steps), in place of the method's.
        criterion: ``(prediction, target) -> loss``, for all objectives but ``"logit_sum"``; by default as
            ``attach`` finds it.
        labels: returns the target of a batch, for these objectives; by default the batch's second entry.
        example: a batch as the network takes it; by default the module's ``example_input_array``.
        example_labels: labels of the example.
        options: other arguments of ``attach``, such as ``layout``, ``head``, ``reset`` and ``spiking``, and
            ``loop="network"`` if one call of the network is a single time step, and the example one too.

    Raises:
        ValueError: the objective cannot be added to a module's loss, or the method has no branches. When training
            starts: the network cannot be wrapped, or the module cannot be trained in this way.

    Example:
        >>> callback = ShortcutCallback("net", method="loss_sum")
        >>> trainer = pl.Trainer(callbacks=[callback], max_epochs=10, accelerator="cpu", logger=False)
    """

    def __init__(
        self,
        network: str,
        taps: str | int | Sequence[str] = "auto",
        *,
        method: Method | str | None = None,
        objective: Objective | str | None = None,
        branch_weight: BranchWeight | None = None,
        criterion: Criterion | None = None,
        labels: Callable[[Any], Tensor] | None = None,
        example: Any = None,
        example_labels: Tensor | None = None,
        **options: Any,
    ) -> None:
        if not isinstance(network, str):
            raise TypeError(
                f'network must be the name of an attribute of the LightningModule, such as "net"; got a '
                f"{type(network).__name__}"
            )
        objective = components.objective.make(objective) if isinstance(objective, str) else objective
        self.method = combine(None, method_named(method), objective, branch_weight)
        rounds_or_penalises = self.method.weight_bits is not None or self.method.penalty is not None
        if self.method.branches is None or self.method.needs_every_step or rounds_or_penalises:
            hint = ", and call initialise(network, example, labels) before training" if self.method.initialise else ""
            raise ValueError(
                f"the method has no branches, needs every time step, rounds weights or has a penalty ({self.method}): "
                f"leave the callback out{hint}"
            )
        self.head, self.log_layout = options.pop("head", None), options.pop("log", None)
        check_known(options)
        for name, function in (("criterion", criterion), ("labels", labels)):
            if function is not None and not callable(function):
                raise TypeError(f"{name} must be a function, got {type(function).__name__} {function!r}")
        self.network, self.taps, self.options = network, taps, options
        self.example, self.example_labels = example, example_labels
        self.criterion, self.labels = criterion, labels or _second_entry
        # Otherwise logits are added to the network's output.
        self._adds_loss = not isinstance(self.method.objective, LogitSum)
        self._steps_are_calls = options.get("loop") == "network"
        self._shortcut: Shortcut | None = None
        self._surrogates: Mapping[str, Any] = {}
        self._readout: Callable[[Any], Any] = Readout()
        self._target: nn.Module | None = None
        self._reset: Callable[[], object] | None = None
        self._undo = ExitStack()
        # Of the current training batch. The predictions of network and branches, in each call, are kept for the loss.
        self._is_training = False
        self._lambda = 0.0
        self._calls: list[list[Tensor]] = []
        # Batches since the start without a call of the network; -1 once it has been called.
        self._uncalled = 0

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the module and the graph of the batch: the network's hooks bring the callback into its pickles."""
        state = {name: value for name, value in vars(self).items() if name not in ("log", "log_dict")}
        return state | {"_undo": ExitStack()}

    @property
    def state_key(self) -> str:
        """The callback's key in the checkpoint, a different one for each network."""
        return f"{type(self).__name__}[{self.network}]"

    @property
    def _branches_name(self) -> str:
        return f"shortcut_branches_{self.network.replace('.', '_')}"

    # Attaching and removing the branches.

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Attach the branches after the module's own ``configure_model``, and before its optimizers are made."""
        self._remove()
        if stage == "fit":
            check_callbacks(trainer, self)
        configure = pl_module.configure_model

        def configure_and_attach() -> None:
            configure()
            # Lightning's weight averaging calls it a second time.
            if self._target is None:
                self._target = self._find_network(pl_module)
                if stage == "fit":
                    self._attach(trainer, pl_module, self._target)
                else:
                    self._prepare_evaluation(pl_module, self._target)

        self._undo.callback(override(pl_module, "configure_model", configure_and_attach))

    def _attach(self, trainer: pl.Trainer, pl_module: pl.LightningModule, network: nn.Module) -> None:
        if hasattr(network, "_orig_mod"):
            raise ValueError(f'{self._call_text} is a compiled copy: name "{self.network}._orig_mod" instead')
        if self._shortcut is None or self._shortcut.network is not network:
            example = pl_module.example_input_array if self.example is None else self.example
            self._shortcut = attach(
                network,
                self.taps,
                method=self.method,
                example=like(example, next(network.parameters(), torch.empty(0))),
                labels=self.example_labels,
                criterion=self.criterion or "auto",
                head=self.head,
                log=self.log_layout or (print if trainer.is_global_zero else (lambda _: None)),
                **self.options,
            )
            report = self._shortcut.initialisation
            self._surrogates = {} if report is None else report.surrogates
        self._reset = self._shortcut.reset
        layout, taps = self._shortcut.layout, self._shortcut.taps
        self._readout = layout.readout or Readout()
        if layout.run is not None:
            # The module has the time loop, so a call is a time step.
            self._steps_are_calls = True
            if isinstance(self._readout, Readout):
                self._readout = replace(self._readout, time_axis=None)
        if self._adds_loss and not pl_module.automatic_optimization:
            raise ValueError(
                f"{type(pl_module).__name__} uses manual optimization, where no loss can be added: use "
                "objective='logit_sum'"
            )
        if not self._adds_loss and not isinstance(self._readout, Readout):
            raise ValueError("logits cannot be added under readout=...: leave it out, or use objective='loss_sum'")
        taps.install()
        self._undo.callback(taps.remove)
        self._shortcut.truncate(True)
        self._undo.callback(self._shortcut.truncate, False)
        self._undo.callback(network.register_forward_pre_hook(self._before_call).remove)
        self._undo.callback(network.register_forward_hook(self._after_call).remove)
        pl_module.add_module(self._branches_name, self._shortcut.branches)
        self._undo.callback(delattr, pl_module, self._branches_name)
        step = self._with_branches(pl_module.training_step)
        self._undo.callback(override(pl_module, "training_step", step))

    def _prepare_evaluation(self, pl_module: pl.LightningModule, network: nn.Module) -> None:
        """Find what resets the network's state, and let the module load checkpoints with branches."""
        if self._shortcut is not None and self._shortcut.network is network:
            self._reset = self._shortcut.reset
        else:
            layout = self.options.get("layout")
            reset = self.options.get("reset", "auto" if layout is None else layout.reset)
            reset = library_reset(find_adapters(network)) if reset == "auto" else reset
            self._reset = None if reset is None else functools.partial(reset, network)
        handle = pl_module.register_load_state_dict_pre_hook(self._drop_branches)  # type: ignore[no-untyped-call]
        self._undo.callback(handle.remove)

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

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let the optimizers train the branches if the module gave them the network's parameters only."""
        # For its error where training has no end.
        count_steps(trainer)
        assert self._shortcut is not None
        # Lightning loads the optimizers' state after this.
        add_to_optimizers(trainer.optimizers, self._shortcut.branches, self._shortcut.network)
        self._uncalled = 0

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Remove the branches; the module is as before, trained."""
        self._remove()
        remove_from_averages(trainer, self._branches_name)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Remove the branches."""
        self._remove()

    def _remove(self) -> None:
        self._end_batch()
        self._undo.close()
        self._target = self._reset = None

    def state_dict(self) -> dict[str, Any]:
        """Return the surrogates that were set; the branches are in the module's state."""
        return {"surrogates": dict(self._surrogates)} if self._surrogates else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the surrogates that were set."""
        surrogates = state_dict.get("surrogates", {})
        if self._shortcut is not None and surrogates:
            set_surrogates(self._shortcut.network, surrogates)
            # The next checkpoint has these, and not those of the initialisation that came before.
            self._surrogates = surrogates

    # Batches.

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Reset the network's state, and set lambda for this step."""
        self._reset_state()
        by_epoch = self.method.branches is not None and self.method.branches.by == "epoch"
        self._lambda = self.method.branch_weight(*progress(trainer, pl_module, by_epoch))
        self._is_training = True
        if self._uncalled >= 0:
            self._uncalled += 1

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Reset the state for layers that activation checkpointing recomputes."""
        # A module under manual optimization may continue with its states within a batch.
        if pl_module.automatic_optimization:
            self._reset_state()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Release states and graphs; warn if the network is never called."""
        self._end_batch()
        if self._uncalled == min(10, trainer.num_training_batches):
            self._uncalled = -1
            name = repr(self.network) if self.network else "the module itself"
            rank_zero_warn(
                f"training_step has not called {name} with gradients, so its branches train nothing: call "
                f"{self._call_text}(x), not its forward(x) or its layers"
            )

    def on_validation_batch_start(self, *_: Any) -> None:
        """Reset the network's state."""
        self._reset_state()

    on_test_batch_start = on_predict_batch_start = on_validation_batch_start  # type: ignore[assignment]

    def _reset_state(self) -> None:
        if self._reset is not None:
            self._reset()

    def _end_batch(self) -> None:
        self._is_training = False
        self._calls = []
        if self._shortcut is not None:
            # A failed forward pass leaves them active.
            self._shortcut.taps.cancel()
        self._reset_state()

    # Calls of the network.

    @property
    def _call_text(self) -> str:
        return f"self.{self.network}" if self.network else "self"

    def _before_call(self, network: nn.Module, args: Any) -> None:
        if self._is_training and torch.is_grad_enabled() and self._shortcut is not None:
            self._shortcut.taps.start()

    def _after_call(self, network: nn.Module, args: Any, output: Any) -> Any:
        """Compute the branches; return the output with their logits added, or keep them for the loss."""
        if self._shortcut is None or not self._shortcut.taps.active:
            return output
        self._uncalled = -1
        tapped, main = self._shortcut.taps.stop(), self._readout(output)
        branches = self._shortcut.predict(tapped, main)
        if self._adds_loss:
            self._calls.append([main, *branches])
            return output
        assert isinstance(self._readout, Readout)
        return self._readout.add(output, self._lambda * sum(branches[1:], branches[0]))

    def _with_branches(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """Return a module's step with the branches' part of the objective added to its loss, unless it returns None."""

        @functools.wraps(step)
        def with_branches(batch: Any, *args: Any, **kwargs: Any) -> Any:
            if not self._is_training:
                # A search of Lightning, which skips the callback's hooks, trains without branches.
                self._reset_state()
            outcome = step(batch, *args, **kwargs)
            if outcome is None or not (self._is_training and self._adds_loss):
                return outcome
            loss = outcome.get("loss") if isinstance(outcome, Mapping) else outcome
            if not isinstance(loss, Tensor):
                raise ValueError("training_step must return its loss, so that the branches' loss can be added")
            loss = loss + self._branch_loss(batch)
            return {**outcome, "loss": loss} if isinstance(outcome, Mapping) else loss

        return with_branches

    def _branch_loss(self, batch: Any) -> Tensor:
        # An optimizer's closure may run several times in a batch.
        calls, self._calls = self._calls, []
        if not calls:
            raise ValueError(f"training_step must call {self._call_text}(x), so that its branches have a loss")
        if len(calls) > 1 and not self._steps_are_calls:
            raise ValueError(
                f"training_step calls {self._call_text}(x) {len(calls)} times, so the labels are ambiguous: call it "
                "once, use objective='logit_sum', or pass loop='network' if a call is a time step"
            )
        main, *branches = [sum(logits[1:], logits[0]) / len(logits) for logits in zip(*calls, strict=True)]
        shortcut, target = self._shortcut, self.labels(batch)
        assert shortcut is not None
        # The difference has no gradient for the main output, unless branches pull it: its two losses have the same one.
        of_all, of_main = (
            shortcut.weighted_loss(output, target, self._lambda, self.criterion)
            for output in (ShortcutOutput(main, tuple(branches)), ShortcutOutput(main))
        )
        return of_all - of_main


def _second_entry(batch: Any) -> Any:
    """Return the second entry of a batch, usually its labels."""
    if not isinstance(batch, Sequence) or len(batch) < 2:
        raise ValueError(f"a batch is a {type(batch).__name__}, not a pair: pass labels=..., which returns its labels")
    return batch[1]
