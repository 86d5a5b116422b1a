"""The callback: puts branches beside a submodule while its LightningModule trains."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor, nn
from torch.nn import functional as F

from .. import components
from ..attachment import attach, method_named
from ..diagnosis import set_widths
from ..introspection import adapters_of, describe, library_reset
from ..method import (
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
from ..neurons import packed_spikes
from .counting import add_logits, add_loss, mean_over_calls, second_of
from .others import check_order
from .overriding import override
from .progress import check_ends, progress
from .unsaved import State, add_unsaved, load_states, set_aside, split_state

# After so many batches in which the network was not called, there must be something wrong.
_PATIENCE = 10


class ShortcutCallback(Callback):
    """Trains a submodule of a LightningModule with shortcut branches; its loss, optimizer and metrics stay its own.

    While the module trains, the branches of ``network`` are computed beside it. With ``"logit_sum"`` the network gives
    main + lambda * sum of branches to the module's own ``training_step`` (the paper). With any other objective it
    gives the main output, and what the objective says more with branches than without, such as lambda * sum of the
    branches' losses, is added to the loss that ``training_step`` returns; its gradient reaches the network through the
    branches alone. In validation, test and prediction nothing is different.

    The balance follows the share of optimizer steps that are done (of training batches, under manual optimization), as
    the Trainer counts them, so a resumed run needs nothing. Neurons that keep state are reset between batches.

    A checkpoint is what it would be without this callback, its optimizers' states too; the branches and their
    optimizers' states are kept in the callback's part. So a run may go on without it; where one goes on with it that
    had none before, the branches start anew.

    Args:
        network: name of the submodule to train, as in ``"net"`` for ``self.net``; ``""`` for a module that is itself
            the network, whose ``training_step`` calls ``self(x)``.
        taps: see :func:`shortcut_snn.attach`, like all of ``options``.
        method: a preset with branches, such as ``"calibrated"``, which says where they are, what they compute, the
            objective and the balance. One that calibrates surrogates needs ``example`` to be real data, and
            ``example_labels``; the widths are kept in the callback's part of a checkpoint.
        objective: how the branches count: an object such as ``LossSum(average=True)``, or the name of one; by default
            ``"logit_sum"``.
        balance: lambda as a function of (step, total steps); by default ``LinearDecay()``.
        criterion: ``(prediction, target) -> loss``, for all objectives but ``"logit_sum"``.
        labels: takes a batch and returns the target, for these too; by default the batch's second entry.
        example: a batch as the network takes it; by default the module's ``example_input_array``.
        example_labels: of the example.
        pack: in training, keep the network's spikes for the backward pass as bits; gradients are the same.
        options: the rest of ``attach``'s arguments, such as ``num_classes``, ``head``, ``reset``, ``channel_axis``, and
            ``loop="network"``, if one call of the network is a single time step and the example one too.

    Raises:
        ValueError: an objective that cannot be added to a module's own loss, or a method without branches; or, when
            training starts, the network cannot be wrapped or the module cannot be trained so.

    Example:
        >>> from shortcut_snn import LossSum
        >>> callback = ShortcutCallback("net", objective=LossSum(average=True), balance=LinearDecay(0.25))
        >>> trainer = pl.Trainer(callbacks=[callback], max_epochs=10, accelerator="cpu", logger=False)
    """

    def __init__(
        self,
        network: str,
        taps: str | int | Sequence[str] = "auto",
        *,
        method: str | None = None,
        objective: Objective | str | None = None,
        balance: BranchWeight | None = None,
        criterion: Criterion = F.cross_entropy,
        labels: Callable[[Any], Tensor] | None = None,
        example: Any = None,
        example_labels: Tensor | None = None,
        pack: bool = False,
        **options: Any,
    ) -> None:
        if method is not None:
            said = method_named(method)
            if said.branches is None:
                raise ValueError(f"the method {method!r} has no branches, and this callback does nothing else")
            if objective is not None or balance is not None:
                raise ValueError(f"the method {method!r} says objective and balance: leave them out, or leave it out")
            objective, balance = said.objective, said.branches.branch_weight
        objective = "logit_sum" if objective is None else objective
        self.objective: Objective = components.objective.make(objective) if isinstance(objective, str) else objective
        if takes_every_step(self.objective) or not takes_branches(self.objective):
            named = type(self.objective).__name__
            raise ValueError(f"{named} is no objective for branches: use it in the module's own training_step")
        self.network, self.taps, self.options = network, taps, options
        self.method, self.example_labels, self.pack = method, example_labels, pack
        self.balance: BranchWeight = LinearDecay() if balance is None else balance
        self.criterion, self.labels = criterion, labels or second_of
        self.example = example
        self._axis = 1 if options.get("time_axis") == 1 else 0
        self._shortcut: Shortcut | None = None
        self._target: nn.Module | None = None
        self._reset: Reset | None = None
        self._readout: Any = None
        self._undo: list[Callable[[], None]] = []
        self._training = False
        self._lambda = 0.0
        self._predictions: list[list[Tensor]] = []
        self._unheard = 0
        self._put_back: Callable[[], None] | None = None
        self._packing = ExitStack()
        self._saved: dict[str, Any] = {}

    @property
    def state_key(self) -> str:
        """One callback for each of several networks."""
        return f"{type(self).__name__}[{self.network}]"

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Put the branches beside the network, before the module makes its optimizers."""
        self._detach()
        if stage == "fit":
            check_order(trainer, self)
        if not self._comes_later(pl_module):
            self._begin(trainer, pl_module, stage)
            return
        configure, begun = pl_module.configure_model, False

        def configure_and_begin() -> None:
            nonlocal begun
            configure()
            # An average of weights calls it too, and the Trainer once more.
            if not begun:
                begun = True
                self._begin(trainer, pl_module, stage)

        # The last hook before the optimizers, behind the module's own setup.
        self._undo.append(override(pl_module, "configure_model", configure_and_begin))

    def _comes_later(self, pl_module: pl.LightningModule) -> bool:
        """Tell whether the module makes its network in ``setup`` or ``configure_model``, as it may for large ones."""
        if self.network:
            try:
                pl_module.get_submodule(self.network)
            except AttributeError:
                return True
            return False
        return any(is_overridden(hook, pl_module) for hook in ("setup", "configure_model"))

    def _begin(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._target = network = self._find(pl_module)
        if stage != "fit":
            self._reset = self._reset_of(network, pl_module)
            return
        if not (pl_module.automatic_optimization or isinstance(self.objective, LogitSum)):
            raise ValueError(
                f"{type(pl_module).__name__} optimizes by itself (automatic_optimization=False), where nothing can be "
                "added to its loss: use objective='logit_sum'"
            )
        if self._shortcut is None or self._shortcut.network is not network:
            example = pl_module.example_input_array if self.example is None else self.example
            # The Trainer will give batches like this.
            example = like(example, next(network.parameters(), torch.empty(0)))
            tell = print if trainer.is_global_zero else (lambda _: None)
            said = {"log": tell, "labels": self.example_labels} | self.options
            self._shortcut = attach(network, self.taps, method=self.method, example=example, **said)
        self._reset, self._readout = self._shortcut._reset, self._shortcut.readout
        if isinstance(self._readout, Readout) and self._shortcut.run is not None:
            # The module goes through time itself: a call gives the logits of one step.
            self._readout = replace(self._readout, time_axis=None)
        taps = self._shortcut.taps
        taps.install()
        handles = [network.register_forward_pre_hook(self._before), network.register_forward_hook(self._after)]
        self._undo += [taps.remove, *(handle.remove for handle in handles)]
        name = f"shortcut_branches_{self.network.replace('.', '_')}"
        self._undo.append(add_unsaved(pl_module, name, self._shortcut.branches))
        if not isinstance(self.objective, LogitSum):
            step = add_loss(pl_module.training_step, self._loss)
            self._undo.append(override(pl_module, "training_step", step))

    def _reset_of(self, network: nn.Module, pl_module: pl.LightningModule) -> Reset | None:
        """Return what puts the network to rest where it is not trained."""
        reset, loop = self.options.get("reset", "auto"), self.options.get("loop", "auto")
        if reset != "auto":
            return reset  # type: ignore[no-any-return]
        if self._shortcut is not None and self._shortcut.network is network:
            return self._shortcut._reset
        example = pl_module.example_input_array if self.example is None else self.example
        libraries = adapters_of(network)
        if libraries or example is None or loop not in ("auto", "network"):
            return library_reset(libraries)
        return describe(network, example, loop=loop).reset

    def _find(self, pl_module: pl.LightningModule) -> nn.Module:
        try:
            return pl_module.get_submodule(self.network)
        except AttributeError:
            names = ", ".join(name for name, _ in pl_module.named_children())
            raise ValueError(
                f"{type(pl_module).__name__} has no submodule {self.network!r} when training starts; there are: {names}"
            ) from None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let the module's optimizers load a state that knows nothing of the branches."""
        check_ends(trainer)
        assert self._shortcut is not None
        branches, network = self._shortcut.branches.parameters(), self._shortcut.network.parameters()
        self._put_back = set_aside(trainer.optimizers, branches, beside=network)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See to it that the branches are trained, also where the module lists its network's parameters alone."""
        assert self._shortcut is not None
        assert self._put_back is not None
        self._put_back()
        load_states(trainer.optimizers, self._saved, dict(self._shortcut.branches.named_parameters()))
        self._put_back, self._saved, self._unheard = None, {}, 0

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Start from rest, with the lambda of this step."""
        self._rest()
        self._lambda = self.balance(*progress(trainer, pl_module))
        self._training, self._predictions = True, []
        if self._unheard >= 0:
            self._unheard += 1

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Let recomputed layers start from rest too; a module that optimizes by itself may go on with its states."""
        if pl_module.automatic_optimization:
            self._rest()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Leave neither states nor graphs behind."""
        self._quiet()
        if self._unheard == min(_PATIENCE, trainer.num_training_batches):
            self._unheard = -1
            if not isinstance(self.objective, LogitSum):
                # Whoever gives a loss without a call of the network is told so at once.
                raise ValueError(
                    "training_step must return its loss for the branches' to be added to it, and returned None for "
                    "every batch so far"
                )
            rank_zero_warn(
                f"training_step did not call {self._name()} with gradients in its first batches, so its branches train "
                f"nothing: call {self._call()}(x), neither its forward(x) nor its layers one by one"
            )

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
        """Return the branches' weights, and the widths of surrogates that were calibrated."""
        if self._shortcut is None:
            return {}
        widths = {"widths": self._shortcut.widths} if self._shortcut.widths else {}
        return {"branches": dict(self._shortcut.branches.state_dict())} | widths

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Put the branches' weights back, and the widths."""
        if self._shortcut is not None:
            if "widths" in state_dict:
                self._shortcut.widths = state_dict["widths"]
                set_widths(self._shortcut.network, self._shortcut.widths)
            self._shortcut.branches.load_state_dict(state_dict["branches"])
            self._saved = state_dict.get("optimizer", {})

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: State) -> None:
        """Move the branches' part of the optimizers' states into the callback's."""
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        each = [callback for callback in callbacks if isinstance(callback, ShortcutCallback)]
        if each[0] is not self or "optimizer_states" not in checkpoint:
            # The first does it for all, since it changes the numbers of parameters.
            return
        names = {
            id(parameter): (callback.state_key, name)
            for callback in each
            if callback._shortcut is not None
            for name, parameter in callback._shortcut.branches.named_parameters()
        }
        states = checkpoint["optimizer_states"]
        for number, optimizer in enumerate(trainer.optimizers):
            states[number], found = split_state(optimizer, states[number], names)
            for (key, name), state in found.items():
                checkpoint["callbacks"][key].setdefault("optimizer", {})[name] = state

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: State) -> None:
        """Say so where a run goes on that had no branches."""
        if self._shortcut is not None and self.state_key not in checkpoint["callbacks"]:
            rank_zero_warn(f"the checkpoint has no branches of {self._name()}: they start anew")

    def _name(self) -> str:
        return repr(self.network) if self.network else "the module itself"

    def _call(self) -> str:
        return f"self.{self.network}" if self.network else "self"

    def _quiet(self) -> None:
        self._training, self._predictions = False, []
        if self._shortcut is not None:
            # After a forward pass that failed they are still listening.
            self._shortcut.taps.cancel()
        self._packing.close()
        self._rest()

    def _rest(self) -> None:
        if self._reset is not None and self._target is not None:
            self._reset(self._target)

    def _before(self, network: nn.Module, args: Any) -> None:
        if self._training and torch.is_grad_enabled() and self._shortcut is not None:
            self._shortcut.taps.start()
            if self.pack:
                self._packing.enter_context(packed_spikes(nn.Module.modules(network)))

    def _after(self, network: nn.Module, args: Any, output: Any) -> Any:
        if self._shortcut is None or not self._shortcut.taps.active:
            return output
        self._packing.close()
        self._unheard = -1
        tapped, readout = self._shortcut.taps.stop(), self._readout
        if isinstance(self.objective, LogitSum):
            found = isinstance(readout, Readout)
            main = readout(output) if found else tensor_in(output)
            logits = self._shortcut.predict(tapped, tapped[0] if main is None else main)
            extra = self._lambda * sum(logits[1:], logits[0])
            return readout.add(output, extra) if found else add_logits(output, extra, self._axis)
        with torch.no_grad():
            main = output if readout is None else readout(output)
        self._predictions.append([main.detach(), *self._shortcut.predict(tapped, main)])
        return output

    def _loss(self, batch: Any) -> Tensor:
        if not self._predictions:
            raise ValueError(
                f"training_step must call {self._call()}(x) for its branches' losses to be added to its own"
            )
        # A closure may be called several times for a batch.
        calls, self._predictions = self._predictions, []
        assert self._shortcut is not None
        if len(calls) > 1 and self._shortcut.run is None and self.options.get("loop") != "network":
            raise ValueError(
                f"training_step calls {self._call()}(x) {len(calls)} times, and which of them the labels belong to "
                "cannot be told: call it once, with all batches joined, or use objective='logit_sum'; "
                "loop='network' says that each call is a time step"
            )
        main, *branches = mean_over_calls(calls)
        losses = [
            self.objective(output, self.labels(batch), self._lambda, self.criterion)
            for output in (ShortcutOutput(main, tuple(branches)), ShortcutOutput(main))
        ]
        return losses[0] - losses[1]
