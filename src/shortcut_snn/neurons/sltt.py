"""Spatial learning through time (SLTT): no gradient travels from one time step to the one before.

Meng et al., "Towards Memory- and Time-Efficient Backpropagation for Training Spiking Neural Networks", ICCV 2023,
arXiv 2302.14311. In the gradient of u[t], of the two paths on which the loss can be reached, through the spike of the
same step and through the membrane potential of the next, the second is left out (leak and reset both)::

    dL/du_pre[t] = dL/ds[t] * surrogate(u_pre[t] - threshold)

What the paper saves in memory it saves by going through the network one time step after the other. Networks here take
a whole sequence, because batch normalisation runs over time and batch together: the gradient is SLTT's, the memory is
not.
"""

import torch
from torch import Tensor

from . import functional
from .functional import Reset
from .surrogate import Surrogate


def lif(
    current: Tensor,
    tau: float | Tensor = 0.5,
    *,
    threshold: float = 1.0,
    surrogate: Surrogate | None = None,
    reset: Reset = "hard",
    initial: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Run leaky integrate-and-fire neurons over a sequence; forward as :func:`.functional.lif`, backward as SLTT.

    Args:
        current: input current ``[T, N, ...]``.
        tau: factor by which the membrane potential decays in a step; a tensor may be learned, each step for itself.
        threshold: where a neuron fires; > 0.
        surrogate: ds/du in the backward pass; ``Rectangle(1)`` by default.
        reset: ``"hard"`` or ``"soft"``.
        initial: membrane potential before the first step ``[N, ...]``; 0 by default. No gradient reaches it.

    Returns:
        Spikes ``[T, N, ...]`` and the membrane potential after the last step ``[N, ...]``.

    Raises:
        ValueError: no time steps, or a parameter out of range.
    """
    whole = current.dim() < 2 or current.shape[0] < 2
    if whole or not torch.is_grad_enabled():
        start = None if initial is None else initial.detach()
        return functional.lif(current, tau, threshold=threshold, surrogate=surrogate, reset=reset, initial=start)
    # A sequence of one step has no time to send a gradient through, so the steps run one by one, each on whatever
    # kernels there are. In float32 at least, because the membrane potential passes between them.
    wide = current.float() if current.dtype in (torch.float16, torch.bfloat16) else current
    membrane, spikes = initial, []
    for step in wide.unbind():
        start = None if membrane is None else membrane.detach().to(wide.dtype)
        fired, membrane = functional.lif(
            step.unsqueeze(0), tau, threshold=threshold, surrogate=surrogate, reset=reset, initial=start
        )
        # Joined without the time axis: so a memory format is kept.
        spikes.append(fired.squeeze(0))
    assert membrane is not None
    joined = torch.cat(spikes).view(current.shape)
    return joined.to(current.dtype), membrane.to(current.dtype)
