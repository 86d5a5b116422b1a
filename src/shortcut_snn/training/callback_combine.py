"""How branches enter the training of a LightningModule: as logits added to the output, or as a loss."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from ..method import Layout, Readout, Shortcut, ShortcutOutput


def call_readout(layout: Layout) -> Callable[[Any], Any]:
    """Return what reads the prediction in one call of the network: of one time step, if the layout has a time loop."""
    readout = layout.readout or Readout()
    if isinstance(readout, Readout) and layout.run is not None:
        # The module has the time loop.
        return replace(readout, time_axis=None)
    return readout


class AddedLogits:
    """The network returns main + lambda * sum of branches, which the module's loss takes."""

    def start(self, shortcut: Shortcut, module: Any) -> None:
        """Find how logits are added to the network's output."""
        readout = call_readout(shortcut.layout)
        if not isinstance(readout, Readout):
            raise ValueError("logits cannot be added under readout=...: leave it out, or use objective='loss_sum'")
        self.readout = readout

    def training_step(self, step: Callable[..., Any]) -> None:
        """Leave the step as it is."""

    def begin_batch(self) -> None:
        """Do nothing."""

    def after_call(self, output: Any, main: Tensor, branches: Sequence[Tensor], branch_weight: float) -> Any:
        """Return the output with the branches' logits added."""
        return self.readout.add(output, branch_weight * sum(branches[1:], branches[0]))


class AddedLoss:
    """The network returns its own output, and the branches' part of the objective is added to the module's loss.

    Args:
        loss: the objective of a batch, its output and a branch weight.
        text: the call of the network in the module's ``training_step``, for messages.
        steps_are_calls: whether a call of the network is a time step.
    """

    def __init__(self, loss: Callable[[Any, ShortcutOutput, float], Tensor], text: str, steps_are_calls: bool) -> None:
        self.loss, self.text, self.steps_are_calls = loss, text, steps_are_calls
        self.calls: list[list[Tensor]] = []
        self.branch_weight = 0.0

    def start(self, shortcut: Shortcut, module: Any) -> None:
        """Check that a loss can be added."""
        if not module.automatic_optimization:
            raise ValueError(
                f"{type(module).__name__} uses manual optimization, where no loss can be added: use "
                "objective='logit_sum'"
            )
        self.steps_are_calls = self.steps_are_calls or shortcut.layout.run is not None

    def training_step(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """Return a step that adds the branches' loss, unless it returns None."""

        @functools.wraps(step)
        def with_added_loss(batch: Any, *args: Any, **kwargs: Any) -> Any:
            outcome = step(batch, *args, **kwargs)
            if outcome is None:
                return None
            loss = outcome.get("loss") if isinstance(outcome, Mapping) else outcome
            if not isinstance(loss, Tensor):
                raise ValueError("training_step must return its loss, so that the branches' loss can be added")
            loss = loss + self._branch_loss(batch)
            return {**outcome, "loss": loss} if isinstance(outcome, Mapping) else loss

        return with_added_loss

    def begin_batch(self) -> None:
        """Forget the calls of the last batch."""
        self.calls = []

    def after_call(self, output: Any, main: Tensor, branches: Sequence[Tensor], branch_weight: float) -> Any:
        """Keep the predictions for the loss, and return the output as it is."""
        self.calls.append([main.detach(), *branches])
        self.branch_weight = branch_weight
        return output

    def _branch_loss(self, batch: Any) -> Tensor:
        """Return the part of the objective that comes from the branches."""
        # An optimizer's closure may run several times in a batch.
        calls, self.calls = self.calls, []
        if not calls:
            raise ValueError(f"training_step must call {self.text}(x), so that its branches have a loss")
        if len(calls) > 1 and not self.steps_are_calls:
            raise ValueError(
                f"training_step calls {self.text}(x) {len(calls)} times, so the labels are ambiguous: call it once, "
                "use objective='logit_sum', or pass loop='network' if a call is a time step"
            )
        main, *branches = [sum(logits[1:], logits[0]) / len(logits) for logits in zip(*calls, strict=True)]
        with_branches = self.loss(batch, ShortcutOutput(main, tuple(branches)), self.branch_weight)
        return with_branches - self.loss(batch, ShortcutOutput(main), self.branch_weight)
