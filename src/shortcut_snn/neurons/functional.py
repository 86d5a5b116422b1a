"""Neurons as pure functions of a whole sequence: nothing to reset between batches.

One dynamics covers IF, LIF and PLIF (paper, preliminaries)::

    u_pre[t] = decay * u[t - 1] + I[t]
    s[t]     = 1 if u_pre[t] > threshold else 0
    u[t]     = u_pre[t] * (1 - s[t])            hard reset
    u[t]     = u_pre[t] - threshold * s[t]      soft reset
"""

import math
from numbers import Real
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .kernels import kernel_surrogate, kernels_run
from .kernels.backend import is_exported
from .kernels.operators import norm_neuron
from .surrogate import Rectangle, Surrogate

Reset = Literal["hard", "soft"]


class _Sequence(torch.autograd.Function):
    """Forward and backward through time by hand: keeps one membrane per step instead of a graph."""

    @staticmethod
    def forward(
        ctx: Any,
        current: Tensor,
        decay: Tensor,
        initial: Tensor | None,
        threshold: float,
        surrogate: Surrogate,
        soft: bool,
        detach_reset: bool,
    ) -> tuple[Tensor, Tensor]:
        compute = compute_dtype(current.dtype)
        factor = decay.to(compute)
        pre = torch.empty(current.shape, dtype=compute, device=current.device)
        spikes = torch.empty_like(current)
        u = None if initial is None else initial.to(compute)
        for t in range(current.shape[0]):
            pre[t], fired, u = one_step(u, current[t], factor, threshold, soft)
            spikes[t] = fired
        assert u is not None
        ctx.save_for_backward(pre, factor, initial)
        ctx.rest = (threshold, surrogate, soft, detach_reset, current.dtype, decay.dtype)
        return spikes, u.to(current.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_spikes, grad_final = grads
        pre, factor, initial = ctx.saved_tensors
        threshold, surrogate, soft, detach_reset, dtype, decay_dtype = ctx.rest
        learn_decay = ctx.needs_input_grad[1]
        grad_current = torch.empty(pre.shape, dtype=dtype, device=pre.device)
        grad_decay = torch.zeros_like(factor)
        grad_u = grad_final.to(pre.dtype)
        for t in reversed(range(pre.shape[0])):
            u_pre = pre[t]
            slope = surrogate(u_pre - threshold)
            if soft:
                carried = grad_u if detach_reset else grad_u - grad_u * threshold * slope
            else:
                carried = grad_u.masked_fill(u_pre > threshold, 0.0)
                if not detach_reset:
                    carried = carried - grad_u * u_pre * slope
            grad_pre = grad_spikes[t] * slope + carried
            grad_current[t] = grad_pre
            if learn_decay:
                before = pre[t - 1] if t else initial
                if before is not None:
                    if t:
                        fired = before > threshold
                        before = before - threshold * fired.to(before.dtype) if soft else before.masked_fill(fired, 0.0)
                    grad_decay += (grad_pre * before).sum()
            grad_u = grad_pre * factor
        grad_initial = None if initial is None else grad_u.to(initial.dtype)
        return (
            grad_current,
            grad_decay.to(decay_dtype) if learn_decay else None,
            grad_initial,
            None,
            None,
            None,
            None,
        )


def one_step(
    u: Tensor | None, current: Tensor, decay: Tensor, threshold: float, soft: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the membrane potential before the spike, whether it fires, and the potential after the reset.

    Args:
        u: membrane potential after the step before ``[N, ...]``, or None for 0.
        current: of this step ``[N, ...]``.
        decay: factor, 0-dimensional, in the dtype to compute in.
        threshold: where a neuron fires.
        soft: whether the reset subtracts the threshold.
    """
    u_pre = current.to(decay.dtype) if u is None else decay * u + current
    fired = u_pre > threshold
    return u_pre, fired, u_pre - threshold * fired.to(u_pre.dtype) if soft else u_pre.masked_fill(fired, 0.0)


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """Membranes of half-precision inputs are integrated in float32."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def unrolled(
    current: Tensor, decay: float | Tensor, threshold: float, soft: bool, initial: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Do as :func:`lif`, forward only, in plain operators: what a file for another runtime holds."""
    dtype = compute_dtype(current.dtype)
    factor = decay.to(dtype) if isinstance(decay, Tensor) else decay
    u = None if initial is None else initial.to(dtype)
    spikes = []
    for step in current.unbind(0):
        u_pre = step.to(dtype) if u is None else factor * u + step
        fired = u_pre > threshold
        spikes.append(fired.to(current.dtype))
        u = u_pre - threshold * fired.to(dtype) if soft else torch.where(fired, 0.0, u_pre)
    assert u is not None
    return torch.stack(spikes), u.to(current.dtype)


def lif(
    current: Tensor,
    decay: float | Tensor = 0.5,
    *,
    threshold: float = 1.0,
    surrogate: Surrogate | None = None,
    reset: Reset = "hard",
    detach_reset: bool = False,
    initial: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Run leaky integrate-and-fire neurons over a sequence.

    Args:
        current: input current ``[T, N, ...]``.
        decay: factor by which the membrane potential decays in a step, from 0 to 1 (snnTorch's ``beta``,
            SpikingJelly's ``1 - 1 / tau``). 1 is the IF neuron. A 0-dimensional tensor may be learned (PLIF).
        threshold: a neuron fires where its membrane potential is greater than this; > 0.
        surrogate: ds/du in the backward pass; ``Rectangle(1)`` by default.
        reset: ``"hard"`` to 0, or ``"soft"``: the threshold is subtracted.
        detach_reset: whether the gradient ignores that the reset depends on the spike.
        initial: membrane potential before the first step ``[N, ...]``; 0 by default.

    Returns:
        Spikes ``[T, N, ...]`` of 0 and 1 in the dtype of ``current``, and the membrane potential after the
        last step ``[N, ...]``, to be passed as ``initial`` when a stream goes on.

    Raises:
        ValueError: no time steps, or a parameter out of range.

    Example:
        >>> spikes, membrane = lif(torch.full((4, 1, 1), 0.75), decay=0.5)
        >>> spikes.flatten(), membrane.flatten()
        (tensor([0., 1., 0., 1.]), tensor([0.]))
    """
    check_call(current, decay, threshold, reset, initial)
    if is_exported():
        return unrolled(current, decay, threshold, reset == "soft", initial)
    surrogate = surrogate or Rectangle()
    factor = decay_tensor(decay, current.device)
    known = kernel_surrogate(surrogate) if kernels_run(current) else None
    if known is not None:
        spikes, final, _ = norm_neuron(
            current, None, None, None, None, None, None, 0.0, factor, initial, current.shape[0], threshold, *known,
            reset == "soft", detach_reset, False, True, False,
        )  # fmt: skip
    else:
        spikes, final = _Sequence.apply(  # type: ignore[no-untyped-call]
            current, factor, initial, threshold, surrogate, reset == "soft", detach_reset
        )
    return spikes, final


def check_call(current: Tensor, decay: float | Tensor, threshold: float, reset: str, initial: Tensor | None) -> None:
    """Refuse a call of :func:`lif` that makes no sense.

    Raises:
        TypeError: naming the argument.
        ValueError: naming the argument.
    """
    if not isinstance(current, Tensor):
        raise TypeError(f"neurons need a tensor, got {type(current).__name__}")
    if current.dim() < 2 or current.shape[0] == 0:
        raise ValueError(
            f"neurons need a current [T, N, ...] with at least 1 time step, got shape {tuple(current.shape)}"
        )
    if not current.is_floating_point():
        raise ValueError(f"neurons need a floating-point current, got {current.dtype}")
    check_parameters(decay, threshold, reset)
    if initial is not None and initial.shape != current.shape[1:]:
        raise ValueError(
            f"the initial membrane potential must have shape {tuple(current.shape[1:])}, got {tuple(initial.shape)}"
        )
    if initial is not None and initial.device != current.device:
        raise ValueError(f"the initial membrane potential is on {initial.device} and the current on {current.device}")


def decay_tensor(decay: float | Tensor, device: torch.device) -> Tensor:
    """Return a decay as a 0-dimensional tensor."""
    # Filled on the device: a copy from the CPU would wait for a GPU.
    # An Apple GPU has no float64.
    dtype = torch.float32 if device.type == "mps" else torch.float64
    return decay if isinstance(decay, Tensor) else torch.full((), decay, dtype=dtype, device=device)


def check_parameters(decay: float | Tensor, threshold: float, reset: str) -> None:
    """Refuse neuron parameters that make no sense.

    Raises:
        TypeError: naming the parameter.
        ValueError: naming the parameter.
    """
    for name, value, kinds in (("decay", decay, Tensor | Real), ("threshold", threshold, Real)):
        # A threshold that is a tensor would look as if it were learned.
        if not isinstance(value, kinds):
            raise TypeError(f"a neuron's {name} must be a number, got {value!r}")
    if isinstance(decay, Tensor):
        if decay.dim() != 0:
            raise ValueError(f"a learnable decay is one number (0-dimensional), got shape {tuple(decay.shape)}")
    elif not 0.0 <= decay <= 1.0:
        raise ValueError(f"decay is the factor on the membrane potential in a step, from 0 to 1, got {decay}")
    if not (math.isfinite(threshold) and threshold > 0):
        raise ValueError(f"the threshold must be finite and > 0, got {threshold}")
    if reset not in get_args(Reset):
        raise ValueError(f"reset must be one of {', '.join(get_args(Reset))}, got {reset!r}")
