"""Neurons as pure functions of a whole sequence: nothing to reset between batches.

One dynamics covers IF, LIF and PLIF (paper, preliminaries)::

    u_pre[t] = decay * u[t - 1] + I[t]
    s[t]     = 1 if u_pre[t] > threshold else 0
    u[t]     = u_pre[t] * (1 - s[t])            hard reset
    u[t]     = u_pre[t] - threshold * s[t]      soft reset
"""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from . import sequence
from .modules import LIF, Reset, check_call, check_parameters
from .surrogate import Rectangle, Surrogate


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
    check_call(current, initial, 1)
    check_parameters(decay, threshold, reset)
    learned = (decay,) if isinstance(decay, Tensor) else ()
    neuron = _neuron(None if learned else decay, threshold, surrogate or Rectangle(), reset, detach_reset)

    def step(current: Tensor, membrane: Tensor) -> tuple[Tensor, ...]:
        membrane = decay * membrane + current
        spike: Tensor = neuron.fire(membrane - threshold)
        return spike, neuron.after(membrane, spike)

    return sequence.stream(neuron, current, initial, learned, step)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _neuron(decay: Any, threshold: float, surrogate: Any, reset: Reset, detach_reset: bool) -> LIF:
    try:
        return _made(decay, threshold, surrogate, reset, detach_reset)
    except TypeError:  # A surrogate that cannot be hashed.
        return _made.__wrapped__(decay, threshold, surrogate, reset, detach_reset)


@lru_cache(256)
def _made(decay: Any, threshold: float, surrogate: Any, reset: Reset, detach_reset: bool) -> LIF:
    """Return a neuron, the same one at each call, so that its step is traced once; None: its decay is given later."""
    neuron = LIF(0.5 if decay is None else decay, threshold, surrogate, reset, detach_reset)
    if decay is None:
        del neuron.decay
        neuron.register_buffer("decay", torch.zeros(()))
    return neuron
