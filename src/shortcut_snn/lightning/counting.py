"""How branches count where the loss is a module's own: in the logits it is given, or in the loss it returns."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from ..method import tensor_in


def add_logits(output: Any, logits: Tensor, time_axis: int) -> Any:
    """Add logits ``[N, classes]`` to a network's: ``[N, classes]``, of every time step, or first in a tuple.

    To the logits of every step they are added whole, so that they are there once when these are averaged. So it is
    with predictions of other shapes.

    Raises:
        ValueError: the output is nothing of that kind.

    Example:
        >>> import torch
        >>> add_logits(torch.zeros(4, 2, 3), torch.ones(2, 3), 0).shape  # T = 4
        torch.Size([4, 2, 3])
    """
    main = tensor_in(output)
    if main is None or main.dim() - logits.dim() not in (0, 1):
        got = type(output).__name__ if main is None else f"shape {tuple(main.shape)}"
        raise ValueError(
            f"the branches' logits cannot be added to what the network gives, {got}: logits [N, classes], those of "
            "every time step, or a tuple that starts with them are needed; use objective='loss_sum'"
        )
    added = main + (logits.unsqueeze(time_axis) if main.dim() > logits.dim() else logits)
    return added if isinstance(output, Tensor) else (added, *output[1:])


def mean_over_calls(calls: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Return each output's logits for a network called once, or once per time step.

    Example:
        >>> import torch
        >>> mean_over_calls([[torch.tensor(1.0)], [torch.tensor(2.0)]])
        [tensor(1.5000)]
    """
    return [sum(of_branch[1:], of_branch[0]) / len(of_branch) for of_branch in zip(*calls, strict=True)]


def add_loss(training_step: Callable[..., Any], extra: Callable[[Any], Tensor]) -> Callable[..., Any]:
    """Return a ``training_step`` whose loss is larger by ``extra(batch)``, which is asked for behind the step's own.

    A step that returns None, so that its batch is left out, does so still.

    Raises:
        ValueError: when called, if the step returns something without a loss.

    Example:
        >>> import torch
        >>> add_loss(lambda batch: batch.sum(), lambda batch: torch.tensor(0.5))(torch.ones(2))
        tensor(2.5000)
    """

    @functools.wraps(training_step)
    def step(batch: Any, *args: Any, **kwargs: Any) -> Any:
        outcome = training_step(batch, *args, **kwargs)
        if outcome is None:
            return None
        loss = outcome.get("loss") if isinstance(outcome, Mapping) else outcome
        if not isinstance(loss, Tensor):
            raise ValueError("training_step must return its loss for the branches' to be added to it")
        loss = loss + extra(batch)
        return {**outcome, "loss": loss} if isinstance(outcome, Mapping) else loss

    return step


def second_of(batch: Any) -> Tensor:
    """Return what a batch has beside its inputs, which most often are labels.

    Raises:
        ValueError: it is no pair.

    Example:
        >>> second_of(("images", "labels"))
        'labels'
    """
    if not isinstance(batch, Sequence) or len(batch) < 2:
        raise ValueError(
            f"a batch is a {type(batch).__name__}, and no pair of inputs and labels: pass labels=..., a function that "
            "takes the batch and returns its labels"
        )
    labels: Tensor = batch[1]
    return labels
