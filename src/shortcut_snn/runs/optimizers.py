"""Torch's optimizers and learning rate schedules by name, with their own options."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn
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


@components.optimizer("muon")
class Muon(Optimizer):
    """Muon for the weights of layers, a convolution's as ``[outputs, inputs * kernel]``, and AdamW for others.

    It is torch's, but for the Newton-Schulz iteration, which is faster and in float32 (:func:`orthogonal`).
    Muon's steps are scaled to the size of AdamW's (``match_rms_adamw``), so that one learning rate serves both.

    Args:
        params: parameters or groups of them.
        lr: learning rate.
        weight_decay: weight decay of both.
        momentum: of Muon.
        nesterov: whether Muon's momentum is Nesterov's.
        ns_steps: Newton-Schulz iterations of a step of Muon.
        betas: of AdamW.

    Example:
        >>> layer = nn.Linear(4, 2)
        >>> optimizer = Muon(layer.parameters(), lr=0.01)
        >>> layer(torch.ones(1, 4)).sum().backward()
        >>> optimizer.step()
    """

    def __init__(
        self,
        params: Any,
        lr: float = 0.01,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_steps: int = 5,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        muon: list[dict[str, Any]] = []
        adamw: list[dict[str, Any]] = []
        # What each group of ours is in the two: (group of muon or None, group of adamw or None).
        self._places: list[tuple[int | None, int | None]] = []
        self._views: list[tuple[nn.Parameter, nn.Parameter]] = []
        for group in self.param_groups:
            layers = [p for p in group["params"] if p.dim() > 1]
            others = [p for p in group["params"] if p.dim() <= 1]
            # They share the weights' memory.
            views = [nn.Parameter(_matrix(p, p)) for p in layers]
            self._views += zip(layers, views, strict=True)
            self._places.append((len(muon) if layers else None, len(adamw) if others else None))
            options = {"lr": group["lr"], "weight_decay": group["weight_decay"]}
            muon += [{"params": views, **options}] * bool(layers)
            adamw += [{"params": others, **options}] * bool(others)
        self.muon = _GramMuon(
            muon, lr, momentum=momentum, nesterov=nesterov, ns_steps=ns_steps, adjust_lr_fn="match_rms_adamw"
        ) if muon else None  # fmt: skip
        self.adamw = torch.optim.AdamW(adamw, lr, betas=betas) if adamw else None

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take a step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group, places in zip(self.param_groups, self._places, strict=True):
            for inner, place in zip((self.muon, self.adamw), places, strict=True):
                if inner is not None and place is not None:
                    inner.param_groups[place] |= {key: group[key] for key in ("lr", "weight_decay")}
        for layer, view in self._views:
            view.grad = None if layer.grad is None else _matrix(layer.grad, layer)
        for inner in self._inner().values():
            inner.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return the state of both."""
        inner = {name: each.state_dict() for name, each in self._inner().items()}
        return super().state_dict() | inner

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Put the state of both back."""
        state = dict(state_dict)
        for name, each in self._inner().items():
            each.load_state_dict(state.pop(name))
        super().load_state_dict(state)

    def _inner(self) -> dict[str, Any]:
        return {name: each for name, each in (("muon", self.muon), ("adamw", self.adamw)) if each is not None}


class _GramMuon(torch.optim.Muon):
    """torch's, whose steps are made orthogonal by :func:`orthogonal`."""

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take a step."""
        for group in self.param_groups:
            lr, momentum = float(group["lr"]), group["momentum"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                if p.grad.is_sparse or p.is_complex():
                    raise RuntimeError("Muon takes real numbers and dense gradients alone")
                state = self.state[p]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(p.grad)
                mean = state["momentum_buffer"].lerp_(p.grad, 1 - momentum)
                update = p.grad.lerp(mean, momentum) if group["nesterov"] else mean
                update = orthogonal(update, group["ns_coefficients"], group["ns_steps"], group["eps"])
                p.mul_(1 - lr * group["weight_decay"])
                # As large as AdamW's steps are (match_rms_adamw).
                p.add_(update, alpha=-lr * (0.2 * math.sqrt(max(p.shape))))


RESTART = 5
"""Iterations on one Gram matrix: the rounding of its smallest eigenvalues grows some twelvefold in each."""


def orthogonal(
    x: Tensor, coefficients: tuple[float, float, float] = (3.4445, -4.775, 2.0315), steps: int = 5, eps: float = 1e-7
) -> Tensor:
    """Return the matrix next to a matrix whose singular values are all about 1 (Jordan et al., Muon, 2024).

    The same quintic Newton-Schulz iteration as torch's, X' = (a + b X X^T + c (X X^T)^2) X. But every factor is a
    polynomial of the first X X^T, so all but the first and the last product are of small square matrices; and it is in
    float32, since a CPU may have no instructions for torch's bfloat16.

    Args:
        x: any matrix, ``[outputs, inputs]``.
        coefficients: a, b and c.
        steps: iterations.
        eps: least norm that it is divided by.

    Raises:
        ValueError: 100 steps or more, as torch refuses them.

    Example:
        >>> x = torch.randn(8, 32)
        >>> bool((torch.linalg.svdvals(orthogonal(x)) - 1).abs().max() < 0.4)
        True
    """
    if steps >= 100:
        raise ValueError(f"{steps} Newton-Schulz iterations; take fewer than 100: 5 do")
    a, b, c = coefficients

    def polynomial_of(gram: Tensor) -> Tensor:
        found = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        found.diagonal().add_(a)
        return found

    tall = x.size(0) > x.size(1)
    wide: Tensor = (x.t() if tall else x).float()
    # The mean gradient of a silent neuron falls towards 0 step by step; products of what is left of it are subnormal
    # numbers, with which a CPU multiplies fifty times as slowly.
    wide = nn.functional.hardshrink(wide / wide.norm().clamp(min=eps), 1e-9)
    for first in range(0, steps, RESTART):
        gram = wide @ wide.t()
        factor = polynomial = polynomial_of(gram)
        for _ in range(first + 1, min(first + RESTART, steps)):
            gram = polynomial @ gram @ polynomial
            polynomial = polynomial_of(gram)
            factor = polynomial @ factor
        wide = factor @ wide
    return wide.t() if tall else wide


def _matrix(x: Tensor, layer: Tensor) -> Tensor:
    """Return a layer's weight, or its gradient, as a matrix of columns in the order of the weight's memory."""
    x = x.detach()
    return (x if layer.is_contiguous() else x.movedim(1, -1)).flatten(1)


# A schedule is built for an optimizer and a number of steps, and is asked once a step.


@components.lr_schedule("constant")
@dataclass(frozen=True)
class Constant:
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
