"""Muon for the weights of layers, AdamW for all others, as one optimizer."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from .. import components


@components.optimizer("muon")
class Muon(Optimizer):
    """Muon for the weights of layers, a convolution's as ``[outputs, inputs * kernel]``, and AdamW for others.

    It is torch's, but for the Newton-Schulz iteration, which is faster and in float32 (:func:`orthogonal`).
    Muon's steps are scaled to the size of AdamW's (``match_rms_adamw``), so that one learning rate serves both.

    Args:
        params: parameters or groups of them, each of which may have its own of the options below.
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
        # Groups come one by one, and torch makes no optimizer without any.
        self.muon = _GramMuon(
            [{"params": []}],
            lr,
            momentum=momentum,
            nesterov=nesterov,
            ns_steps=ns_steps,
            adjust_lr_fn="match_rms_adamw",
        )
        self.adamw = torch.optim.AdamW([{"params": []}], lr, betas=betas)
        for inner in (self.muon, self.adamw):
            inner.param_groups.clear()
        # What each group of ours is in the two: (group of muon or None, group of adamw or None).
        self._places: list[tuple[int | None, ...]] = []
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Take more parameters, as those that are no longer frozen."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        layers = [p for p in group["params"] if p.dim() > 1]
        others = [p for p in group["params"] if p.dim() <= 1]
        places: list[int | None] = []
        for inner, own in ((self.muon, layers), (self.adamw, others)):
            places.append(len(inner.param_groups) if own else None)
            if own:
                inner.add_param_group({"params": own, **_options(group, inner)})
        self._places.append(tuple(places))

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take a step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group, places in zip(self.param_groups, self._places, strict=True):
            for inner, place in zip((self.muon, self.adamw), places, strict=True):
                if place is not None:
                    inner.param_groups[place] |= _options(group, inner)
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

    def __getstate__(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("muon", "adamw", "_places")}
        return super().__getstate__() | own

    def _inner(self) -> dict[str, Any]:
        return {name: each for name, each in (("muon", self.muon), ("adamw", self.adamw)) if each.param_groups}


def _options(group: dict[str, Any], inner: Optimizer) -> dict[str, Any]:
    """Return what a group says of options that an optimizer has."""
    return {key: value for key, value in group.items() if key in inner.defaults}


class _GramMuon(torch.optim.Muon):
    """torch's, whose steps are made orthogonal by :func:`orthogonal`, for weights of any number of axes."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.orders: dict[Tensor, bool] = {}
        """Whether the columns of a weight's momentum are in the order of its axes, or that of channels last."""

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
                # Columns in the order of the weight's memory cost no copy.
                plain, state = p.is_contiguous(), self.state[p]
                grad = _matrix(p.grad, plain)
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(grad)
                elif self.orders.get(p, plain) != plain:
                    state["momentum_buffer"] = _matrix(_weight(state["momentum_buffer"], p, not plain), plain)
                self.orders[p] = plain
                mean = state["momentum_buffer"].lerp_(grad, 1 - momentum)
                update = grad.lerp(mean, momentum) if group["nesterov"] else mean
                update = orthogonal(update, group["ns_coefficients"], group["ns_steps"], group["eps"])
                p.mul_(1 - lr * group["weight_decay"])
                # As large as AdamW's steps are (match_rms_adamw).
                p.add_(_weight(update, p, plain), alpha=-lr * (0.2 * math.sqrt(max(update.shape))))

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"orders": self.orders}


def _matrix(x: Tensor, plain: bool) -> Tensor:
    """Return what is shaped as a weight as a matrix, columns in the order of its axes or of channels last."""
    return (x if plain else x.movedim(1, -1)).flatten(1)


def _weight(matrix: Tensor, like: Tensor, plain: bool) -> Tensor:
    """Return such a matrix in the shape of a weight."""
    return matrix.reshape(like.shape) if plain else matrix.reshape(like.movedim(1, -1).shape).movedim(-1, 1)


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
