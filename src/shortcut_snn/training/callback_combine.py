"""How branches enter the training of a LightningModule if their logits are not added to the output: as a loss."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from ..method import Layout, Readout, ShortcutOutput


def call_readout(layout: Layout) -> Callable[[Any], Any]:
    """Return what reads the prediction in one call of the network: of one time step, if the layout has a time loop."""
    readout = layout.readout or Readout()
    if isinstance(readout, Readout) and layout.run is not None:
        # The module has the time loop.
        return replace(readout, time_axis=None)
    return readout


class AddedLoss:
    """The network returns its own output, and the branches' part of the objective is added to the module's loss.

    Args:
        loss: the objective of a batch and its output.
        text: the call of the network in the module's ``training_step``, for messages.
        steps_are_calls: whether a call of the network is a time step.
    """

    def __init__(self, loss: Callable[[Any, ShortcutOutput], Tensor], text: str, steps_are_calls: bool) -> None:
        self.loss, self.text, self.steps_are_calls = loss, text, steps_are_calls
        self.calls: list[list[Tensor]] = []
        """The predictions of network and branches in each call of a batch."""

    def training_step(self, module: Any, layout: Layout) -> Callable[..., Any]:
        """Return a module's step with the branches' loss added, unless it returns None."""
        if not module.automatic_optimization:
            raise ValueError(
                f"{type(module).__name__} uses manual optimization, where no loss can be added: use "
                "objective='logit_sum'"
            )
        self.steps_are_calls = self.steps_are_calls or layout.run is not None
        step = module.training_step

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
        # The difference has no gradient for the main output, unless branches pull it: its two losses have the same one.
        main, *branches = [sum(logits[1:], logits[0]) / len(logits) for logits in zip(*calls, strict=True)]
        return self.loss(batch, ShortcutOutput(main, tuple(branches))) - self.loss(batch, ShortcutOutput(main))
