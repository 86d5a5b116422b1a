"""Muon for the weights of layers and AdamW for all other parameters, as one optimizer."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.adamw import adamw

from .. import components

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
