"""Muon, and torch's optimizers and learning rate schedules by name, with their own options."""

import math
from collections.abc import Callable
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt, Le, Lt
from torch import Tensor, nn
from torch.optim import Optimizer, lr_scheduler
from torch.optim.adamw import adamw
from torch.optim.lr_scheduler import LRScheduler

from .. import components
from ..introspection.neurons import learned_by_neurons

# The base class, one that needs a closure, one for sparse gradients, and Muon, which this file has.
_NOT_REGISTERED = ("Optimizer", "LBFGS", "SparseAdam", "Muon")

for _name in torch.optim.__all__:
    _class = getattr(torch.optim, _name, None)
    if isinstance(_class, type) and issubclass(_class, Optimizer) and _name not in _NOT_REGISTERED:
        components.optimizer(_name.lower())(_class)


_ITERATIONS = 5


@components.optimizer("muon")
class Muon(Optimizer):
    """Muon for the weights of layers, and AdamW for all other parameters.

    A convolution's weight counts as a matrix ``[outputs, inputs * kernel]``. Muon's steps are scaled to the size of
    AdamW's, so one learning rate suits both. ``torch.optim.Muon`` takes matrices only and computes in bfloat16, for
    which many CPUs have no instructions; this one computes the same iteration in float32 with fewer large products.

    Args:
        params: parameters or groups of them, each of which may have its own options. A group with ``use_muon=False``
            is left to AdamW.
        lr: learning rate.
        weight_decay: weight decay of both.
        momentum: momentum of Muon's update.
        nesterov: whether Muon's momentum is Nesterov's.
        betas: coefficients of AdamW.

    Example:
        >>> layer = nn.Linear(4, 2)
        >>> optimizer = Muon(layer.parameters(), lr=0.01)
        >>> layer(torch.ones(1, 4)).sum().backward()
        >>> optimizer.step()

    Source: Jordan et al., Muon: an optimizer for hidden layers, 2024.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 0.01,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        if min(lr, weight_decay, momentum) < 0:
            raise ValueError(f"lr, weight_decay and momentum must not be negative: {lr}, {weight_decay}, {momentum}")
        options = {"weight_decay": weight_decay, "momentum": momentum, "nesterov": nesterov, "use_muon": True}
        super().__init__(params, {"lr": lr, "betas": betas} | options)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update all parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if any(parameter.grad.is_sparse or parameter.is_complex() for parameter in parameters):
                raise RuntimeError("Muon takes real parameters with dense gradients only")
            for parameter in parameters:
                if parameter.dim() > 1 and group["use_muon"]:
                    self._muon_step(parameter, group)
            self._adamw_step([p for p in parameters if p.dim() <= 1 or not group["use_muon"]], group)
        return loss

    def _muon_step(self, parameter: Tensor, group: dict[str, Any]) -> None:
        assert parameter.grad is not None
        state, lr = self.state[parameter], float(group["lr"])
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        mean = state["momentum_buffer"].lerp_(parameter.grad, 1 - group["momentum"])
        update = parameter.grad.lerp(mean, group["momentum"]) if group["nesterov"] else mean
        # Columns in the order of memory, so that a channels-last weight is not copied; their order does not matter.
        is_channels_last = not parameter.is_contiguous()
        ordered = update.movedim(1, -1) if is_channels_last else update
        matrix = orthogonalise(ordered.flatten(1))
        step = matrix.reshape(ordered.shape)
        step = step.movedim(-1, 1) if is_channels_last else step
        parameter.mul_(1 - lr * group["weight_decay"])
        # 0.2 * sqrt(max(shape)) matches the RMS of AdamW's steps.
        parameter.add_(step, alpha=-lr * 0.2 * math.sqrt(max(matrix.shape)))

    def _adamw_step(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        for parameter in parameters:
            if not self.state[parameter]:
                zeros = {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
                self.state[parameter].update({"step": torch.zeros(())} | zeros)
        states = [self.state[parameter] for parameter in parameters]
        beta1, beta2 = group["betas"]
        adamw(
            parameters,
            [p.grad for p in parameters if p.grad is not None],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=1e-8,
            amsgrad=False,
            maximize=False,
        )


def orthogonalise(matrix: Tensor, eps: float = 1e-7) -> Tensor:
    """Return the matrix next to ``matrix`` ``[outputs, inputs]`` whose singular values are all about 1, in float32.

    Like torch's Muon, this iterates X' = (a + b X X^T + c (X X^T)^2) X five times. Every factor is a polynomial of the
    first Gram matrix X X^T, so only the first and the last product involve X itself.
    """
    a, b, c = 3.4445, -4.775, 2.0315

    def polynomial(gram: Tensor) -> Tensor:
        result = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        result.diagonal().add_(a)
        return result

    is_tall = matrix.size(0) > matrix.size(1)
    wide = (matrix.t() if is_tall else matrix).float()
    # The gradient of silent neurons decays into subnormal numbers, with which a CPU computes fifty times as slowly.
    wide = nn.functional.hardshrink(wide / wide.norm().clamp(min=eps), 1e-9)
    gram = wide @ wide.t()
    product = factor = polynomial(gram)
    for _ in range(_ITERATIONS - 1):
        gram = factor @ gram @ factor
        factor = polynomial(gram)
        product = factor @ product
    return (product @ wide).t() if is_tall else product @ wide


# Each returns torch's scheduler for an optimizer and a number of steps.


@components.lr_schedule("constant")
def constant(optimizer: Optimizer, total: int) -> LRScheduler:
    """A constant learning rate."""
    return lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)


@components.lr_schedule("cosine")
def cosine(optimizer: Optimizer, total: int, *, minimum: Annotated[float, Ge(0), Le(1)] = 0.0) -> LRScheduler:
    """Decay along half a cosine.

    Args:
        minimum: final value, as a fraction of the learning rate.
    """
    return lr_scheduler.CosineAnnealingLR(optimizer, total, minimum * optimizer.param_groups[0]["lr"])


@components.lr_schedule("linear")
def linear(optimizer: Optimizer, total: int, *, minimum: Annotated[float, Ge(0), Le(1)] = 0.0) -> LRScheduler:
    """Linear decay.

    Args:
        minimum: final value, as a fraction of the learning rate.
    """
    return lr_scheduler.LinearLR(optimizer, 1.0, minimum, total)


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
    return lr_scheduler.MultiStepLR(optimizer, [round(milestone * total) for milestone in milestones], gamma)


@components.lr_schedule("onecycle")
def onecycle(
    optimizer: Optimizer,
    total: int,
    *,
    pct_start: Annotated[float, Gt(0), Lt(1)] = 0.3,
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
    total = max(total, 2)
    # Torch divides by zero if the rise is one step.
    pct_start = 1.001 / total if pct_start * total == 1 else pct_start
    return lr_scheduler.OneCycleLR(
        optimizer,
        [group["lr"] for group in optimizer.param_groups],
        total_steps=total,
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
    rise = lr_scheduler.LinearLR(optimizer, 1 / (warmup_steps + 1), 1.0, warmup_steps)
    return lr_scheduler.SequentialLR(optimizer, [rise, scheduler], [warmup_steps])


def make_optimizer(optimizer: Any, params: Any) -> Optimizer:
    """Return the optimizer of a component."""
    try:
        built: Optimizer = optimizer.build(params=params)
        if built.defaults.get("differentiable"):
            raise ValueError("differentiable: a step of training is not differentiated; leave it out")
    except (ValueError, RuntimeError, AssertionError) as error:
        raise ValueError(f"optimizer: {error}") from None
    return built


def parameter_groups(model: nn.Module, decay_all: bool = False) -> list[dict[str, Any]]:
    """Return two groups: weights of layers, and the other parameters without weight decay and Muon.

    The others are norms, biases and all parameters of neurons, whose scale does not measure the function's complexity.
    """
    # Norms over several axes have weights of several axes.
    norms = [module for module in model.modules() if isinstance(module, nn.LayerNorm | nn.RMSNorm)]
    unscaled = [*learned_by_neurons(model), *(parameter for norm in norms for parameter in norm.parameters())]
    of_neurons_and_norms = {id(parameter) for parameter in unscaled}
    parameters = [p for p in model.parameters() if p.requires_grad]
    weights = [p for p in parameters if p.dim() > 1 and id(p) not in of_neurons_and_norms]
    others = [p for p in parameters if p.dim() <= 1 or id(p) in of_neurons_and_norms]
    groups: list[dict[str, Any]] = [
        {"params": weights},
        {"params": others, "use_muon": False} | ({} if decay_all else {"weight_decay": 0.0}),
    ]
    return [group for group in groups if group["params"]]
