"""Torch's optimizers and learning rate schedules by name, with their own options."""

import math
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge, Gt, Le
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    SequentialLR,
)

from .. import components

_OWN = ("Optimizer", "LBFGS", "SparseAdam", "Muon")
"""What is not registered as it is: no optimizer, one that needs a closure, one for sparse gradients, and Muon."""

for _name in torch.optim.__all__:
    _class = getattr(torch.optim, _name, None)
    if isinstance(_class, type) and issubclass(_class, Optimizer) and _name not in _OWN:
        components.optimizer(_name.lower())(_class)


# A schedule is built for an optimizer and a number of steps, and is asked once a step.


@components.lr_schedule("constant")
@dataclass(frozen=True)
class ConstantRate:
    """The same learning rate throughout."""

    def build(self, optimizer: Optimizer, total: int) -> LRScheduler:
        """Return torch's schedule."""
        return LambdaLR(optimizer, lambda step: 1.0)


@components.lr_schedule("cosine")
@dataclass(frozen=True)
class Cosine:
    """Half a cosine from the learning rate down.

    Args:
        minimum: where it ends, as a fraction of the learning rate.
    """

    minimum: Annotated[float, Ge(0), Le(1)] = 0.0

    def build(self, optimizer: Optimizer, total: int) -> LRScheduler:
        """Return torch's schedule."""
        if self.minimum == 0:
            return CosineAnnealingLR(optimizer, T_max=total)
        low = self.minimum
        return LambdaLR(optimizer, lambda step: low + (1 - low) * (1 + math.cos(math.pi * min(step / total, 1))) / 2)


@components.lr_schedule("linear")
@dataclass(frozen=True)
class Linear:
    """A line from the learning rate down.

    Args:
        minimum: where it ends, as a fraction of the learning rate.
    """

    minimum: Annotated[float, Ge(0), Le(1)] = 0.0

    def build(self, optimizer: Optimizer, total: int) -> LRScheduler:
        """Return torch's schedule."""
        return LinearLR(optimizer, 1.0, self.minimum, total)


@components.lr_schedule("multistep")
@dataclass(frozen=True)
class MultiStep:
    """The learning rate times ``gamma`` at each milestone.

    Args:
        milestones: fractions of training, or of what follows the warm-up where there is one.
        gamma: factor.
    """

    milestones: tuple[Annotated[float, Ge(0), Le(1)], ...] = (0.5, 0.75)
    gamma: Annotated[float, Gt(0)] = 0.1

    def build(self, optimizer: Optimizer, total: int) -> LRScheduler:
        """Return torch's schedule."""
        return MultiStepLR(optimizer, [round(each * total) for each in self.milestones], self.gamma)


@components.lr_schedule("onecycle")
@dataclass(frozen=True)
class OneCycle:
    """Up to the learning rate and down again (Smith and Topin, 2018), with torch's own options.

    Args:
        pct_start: fraction of training in which it rises.
        div_factor: the learning rate over the one at the start.
        final_div_factor: the one at the start over the one at the end.
        anneal_strategy: cos or linear.
    """

    warms_up: ClassVar[bool] = True

    pct_start: Annotated[float, Gt(0), Le(1)] = 0.3
    div_factor: Annotated[float, Ge(1)] = 25.0
    final_div_factor: Annotated[float, Ge(1)] = 1e4
    anneal_strategy: Literal["cos", "linear"] = "cos"

    def build(self, optimizer: Optimizer, total: int) -> LRScheduler:
        """Return torch's schedule."""
        return OneCycleLR(
            optimizer,
            [group["lr"] for group in optimizer.param_groups],
            total_steps=max(total, 2),
            pct_start=self.pct_start,
            anneal_strategy=self.anneal_strategy,
            cycle_momentum=False,
            div_factor=self.div_factor,
            final_div_factor=self.final_div_factor,
        )


def scheduler(lr_schedule: Any, optimizer: Optimizer, total: int, warmup: float = 0.0) -> LRScheduler:
    """Return a learning rate schedule for a number of steps, behind a linear warm-up.

    Args:
        lr_schedule: a component.
        optimizer: whose learning rates it moves.
        total: all steps, those of the warm-up too.
        warmup: fraction of them over which the learning rate rises from (next to) 0.
    """
    first = round(warmup * total)
    if not first:
        built: LRScheduler = lr_schedule.build(optimizer=optimizer, total=max(total, 1))
        return built
    # Before the rise changes the learning rate, which some schedules read.
    rest = lr_schedule.build(optimizer=optimizer, total=max(total - first, 1))
    return SequentialLR(optimizer, [LinearLR(optimizer, 1 / (first + 1), 1.0, first), rest], [first])


def make_optimizer(optimizer: Any, params: Any) -> Optimizer:
    """Return torch's optimizer of a component; torch refuses options when it is made.

    Args:
        optimizer: a component.
        params: parameters or groups of them.

    Raises:
        ValueError: options that make no sense, in torch's words.
    """
    try:
        made: Optimizer = optimizer.build(params=params)
    except (ValueError, RuntimeError, AssertionError) as error:
        raise ValueError(f"optimizer: {error}") from None
    return made


def parameter_groups(model: nn.Module, everything: bool = False) -> list[dict[str, Any]]:
    """Split parameters into those that weight decay falls on, the weights of layers, and those that it spares.

    Norms, biases and what neurons learn are spared: their scale is no measure of what they do.

    Args:
        model: whose parameters.
        everything: whether weight decay falls on all of them.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    if everything:
        return [{"params": parameters}]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.dim() > 1]},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
