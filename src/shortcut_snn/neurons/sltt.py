"""Spatial learning through time (SLTT): no gradient travels from one time step to the one before.

Meng et al., "Towards Memory- and Time-Efficient Backpropagation for Training Spiking Neural Networks", ICCV 2023,
arXiv 2302.14311. In the gradient of u[t], of the two paths on which the loss can be reached, through the spike of the
same step and through the membrane potential of the next, the second is left out (leak and reset both)::

    dL/du_pre[t] = dL/ds[t] * surrogate(u_pre[t] - threshold)

So what a neuron keeps for the backward pass is that slope, and there is no loop in it. What the paper saves beyond that
it saves by going through the network one time step after the other. Networks here take a whole sequence, because batch
normalisation runs over time and batch together: the gradient is SLTT's, the memory still grows with T.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from . import functional
from .functional import Reset
from .surrogate import Rectangle, Surrogate


class _Spatial(torch.autograd.Function):
    """Plain PyTorch on every device: forward over time, backward each step by itself."""

    @staticmethod
    def forward(
        ctx: Any,
        current: Tensor,
        decay: Tensor,
        initial: Tensor | None,
        threshold: float,
        surrogate: Surrogate,
        soft: bool,
    ) -> tuple[Tensor, Tensor]:
        factor = decay.to(functional.compute_dtype(current.dtype))
        u = None if initial is None else initial.to(factor.dtype)
        spikes, slopes = torch.empty_like(current), torch.empty_like(current)
        # What u[t - 1] was, for the gradient of the decay.
        before = torch.zeros_like(current, dtype=factor.dtype) if ctx.needs_input_grad[1] else None
        for t, step in enumerate(current):
            if before is not None and u is not None:
                before[t] = u
            u_pre, spikes[t], u = functional.one_step(u, step, factor, threshold, soft)
            slopes[t] = surrogate(u_pre - threshold)
        assert u is not None
        final = u.to(current.dtype)
        ctx.save_for_backward(slopes, before)
        ctx.decay_dtype = decay.dtype
        # To the steps that follow it is a number.
        ctx.mark_non_differentiable(final)
        return spikes, final

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        slopes, before = ctx.saved_tensors
        grad_current = grads[0] * slopes
        grad_decay = None if before is None else (grad_current * before).sum().to(ctx.decay_dtype)
        return grad_current, grad_decay, None, None, None, None


def lif(
    current: Tensor,
    decay: float | Tensor = 0.5,
    *,
    threshold: float = 1.0,
    surrogate: Surrogate | None = None,
    reset: Reset = "hard",
    initial: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Run leaky integrate-and-fire neurons over a sequence; forward as :func:`.functional.lif`, backward as SLTT.

    Args:
        current: input current ``[T, N, ...]``.
        decay: factor by which the membrane potential decays in a step; a tensor may be learned, each step for itself.
        threshold: where a neuron fires; > 0.
        surrogate: ds/du in the backward pass; ``Rectangle(1)`` by default.
        reset: ``"hard"`` or ``"soft"``.
        initial: membrane potential before the first step ``[N, ...]``; 0 by default. No gradient reaches it.

    Returns:
        Spikes ``[T, N, ...]`` and the membrane potential after the last step ``[N, ...]``, through which no gradient
        goes back.

    Raises:
        ValueError: no time steps, or a parameter out of range.

    Example:
        >>> current = torch.full((2, 1, 1), 0.75, requires_grad=True)
        >>> lif(current)[0].sum().backward()
        >>> current.grad.flatten()
        tensor([1., 1.])
    """
    start = None if initial is None else initial.detach()
    if not torch.is_grad_enabled():
        return functional.lif(current, decay, threshold=threshold, surrogate=surrogate, reset=reset, initial=start)
    functional.check_call(current, decay, threshold, reset, start)
    spikes, final = _Spatial.apply(  # type: ignore[no-untyped-call]
        current,
        functional.decay_tensor(decay, current.device),
        start,
        threshold,
        surrogate or Rectangle(),
        reset == "soft",
    )
    return spikes, final
