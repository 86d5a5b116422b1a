"""torch's optimizers and learning rate schedules by name, with their own options."""

import math
from typing import Annotated, Any, Literal

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
from ..introspection.neurons import learned_by_neurons

# The base class, one that needs a closure, one for sparse gradients, and Muon, which has a file of its own here.
_NOT_REGISTERED = ("Optimizer", "LBFGS", "SparseAdam", "Muon")

for _name in torch.optim.__all__:
    _class = getattr(torch.optim, _name, None)
    if isinstance(_class, type) and issubclass(_class, Optimizer) and _name not in _NOT_REGISTERED:
        components.optimizer(_name.lower())(_class)


# Each returns torch's scheduler for an optimizer and a number of steps.


@components.lr_schedule("constant")
def constant(optimizer: Optimizer, total: int) -> LRScheduler:
    """A constant learning rate."""
    return LambdaLR(optimizer, lambda step: 1.0)


@components.lr_schedule("cosine")
def cosine(optimizer: Optimizer, total: int, *, minimum: Annotated[float, Ge(0), Le(1)] = 0.0) -> LRScheduler:
    """Decay along half a cosine.

    Args:
        minimum: final value, as a fraction of the learning rate.
    """
    if minimum == 0:
        return CosineAnnealingLR(optimizer, T_max=total)
    return LambdaLR(
        optimizer, lambda step: minimum + (1 - minimum) * (1 + math.cos(math.pi * min(step / total, 1))) / 2
    )


@components.lr_schedule("linear")
def linear(optimizer: Optimizer, total: int, *, minimum: Annotated[float, Ge(0), Le(1)] = 0.0) -> LRScheduler:
    """Linear decay.

    Args:
        minimum: final value, as a fraction of the learning rate.
    """
    return LinearLR(optimizer, 1.0, minimum, total)


@components.lr_schedule("multistep")
def multistep(
    optimizer: Optimizer,
    total: int,
    *,
    milestones: tuple[Annotated[float, Ge(0), Le(1)], ...] = (0.5, 0.75),
    gamma: Annotated[float, Gt(0)] = 0.1,
) -> LRScheduler:
    """Decay by the factor ``gamma`` at each milestone.

    Args:
        milestones: fractions of training, after the warm-up if there is one.
        gamma: factor of decay.
    """
    return MultiStepLR(optimizer, [round(milestone * total) for milestone in milestones], gamma)


@components.lr_schedule("onecycle")
def onecycle(
    optimizer: Optimizer,
    total: int,
    *,
    pct_start: Annotated[float, Gt(0), Le(1)] = 0.3,
    div_factor: Annotated[float, Ge(1)] = 25.0,
    final_div_factor: Annotated[float, Ge(1)] = 1e4,
    anneal_strategy: Literal["cos", "linear"] = "cos",
) -> LRScheduler:
    """Rise to the learning rate and decay again (Smith and Topin, 2018), with torch's own options.

    Args:
        pct_start: fraction of training during which it rises.
        div_factor: the maximum divided by the initial value.
        final_div_factor: the initial value divided by the final one.
        anneal_strategy: cos or linear.
    """
    return OneCycleLR(
        optimizer,
        [group["lr"] for group in optimizer.param_groups],
        total_steps=max(total, 2),
        pct_start=pct_start,
        anneal_strategy=anneal_strategy,
        cycle_momentum=False,
        div_factor=div_factor,
        final_div_factor=final_div_factor,
    )


def make_lr_scheduler(lr_schedule: Any, optimizer: Optimizer, total: int, warmup: float = 0.0) -> LRScheduler:
    """Return the scheduler for ``total`` steps; ``warmup`` is the fraction of them of a linear rise from near 0."""
    warmup_steps = round(warmup * total)
    # Built before LinearLR changes the learning rate, which some schedules read.
    scheduler: LRScheduler = lr_schedule.build(optimizer=optimizer, total=max(total - warmup_steps, 1))
    if not warmup_steps:
        return scheduler
    rise = LinearLR(optimizer, 1 / (warmup_steps + 1), 1.0, warmup_steps)
    return SequentialLR(optimizer, [rise, scheduler], [warmup_steps])


def make_optimizer(optimizer: Any, params: Any) -> Optimizer:
    """Return the optimizer of a component."""
    try:
        built: Optimizer = optimizer.build(params=params)
    except (ValueError, RuntimeError, AssertionError) as error:
        raise ValueError(f"optimizer: {error}") from None
    return built


def parameter_groups(model: nn.Module, decay_all: bool = False) -> list[dict[str, Any]]:
    """Return two groups: weights of layers, and the other parameters without weight decay and Muon.

    The others are norms, biases and all parameters of neurons, whose scale does not measure the function's complexity.
    """
    of_neurons = {id(parameter) for parameter in learned_by_neurons(model)}
    parameters = [p for p in model.parameters() if p.requires_grad]
    weights = [p for p in parameters if p.dim() > 1 and id(p) not in of_neurons]
    others = [p for p in parameters if p.dim() <= 1 or id(p) in of_neurons]
    groups: list[dict[str, Any]] = [
        {"params": weights},
        {"params": others, "use_muon": False} | ({} if decay_all else {"weight_decay": 0.0}),
    ]
    return [group for group in groups if group["params"]]
