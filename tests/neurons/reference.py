"""The neuron as the paper writes it: one plain Python loop, differentiated by autograd."""

from typing import Any

import torch
from torch import Tensor

from shortcut_snn.neurons import Surrogate


class Spike(torch.autograd.Function):
    """1 where the membrane potential is greater than the threshold; backward is the surrogate."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, surrogate: Surrogate) -> Tensor:
        ctx.save_for_backward(v)
        ctx.surrogate = surrogate
        return (v > 0).to(v.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (v,) = ctx.saved_tensors
        return grad * ctx.surrogate(v), None


def unrolled(
    current: Tensor,
    decay: float | Tensor,
    threshold: float,
    surrogate: Surrogate,
    reset: str,
    detach_reset: bool,
    initial: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the spikes and the final membrane potential."""
    u = torch.zeros_like(current[0]) if initial is None else initial
    spikes = []
    for step in current:
        u_pre = decay * u + step
        s = Spike.apply(u_pre - threshold, surrogate)
        spikes.append(s)
        down = s.detach() if detach_reset else s
        u = u_pre * (1 - down) if reset == "hard" else u_pre - threshold * down
    return torch.stack(spikes), u
