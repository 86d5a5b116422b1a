"""Neurons written out step by step in plain operators: what a file for another runtime holds."""

import torch
from torch import Tensor


def unrolled(
    current: Tensor, decay: float | Tensor, threshold: float, soft: bool, initial: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return spikes ``[T, N, ...]`` and the final membrane potential ``[N, ...]``, as ``functional.lif`` does.

    Forward only: to autograd a spike has no derivative.
    """
    dtype = torch.float32 if current.dtype in (torch.float16, torch.bfloat16) else current.dtype
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
