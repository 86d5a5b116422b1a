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
from .backend import is_exported, kernels_run
from .compiler.lowering import Traced, straight_through
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
    surrogate = surrogate or Rectangle()
    runs = not is_exported() and kernels_run(current)
    found = None
    if runs or not (is_exported() or torch.compiler.is_compiling()):
        found = _program(None if isinstance(decay, Tensor) else decay, threshold, surrogate, reset, detach_reset)
    if found is None:

        def step(current: Tensor, membrane: Tensor) -> tuple[Tensor, Tensor]:
            membrane = decay * membrane + current
            v = membrane - threshold
            spike = straight_through((v > 0).to(v.dtype), v, surrogate)
            down = spike.detach() if detach_reset else spike
            return spike, membrane - threshold * down if reset == "soft" else membrane * (1 - down)

        return sequence.as_written(step, 1, False, current, initial)
    scalars = [decay] if isinstance(decay, Tensor) else []
    if not runs:
        return sequence.in_plain_pytorch(found, scalars, [], True, current, initial)
    steps = current.shape[0]
    spikes, final, _ = sequence.call_kernels(found, scalars, [], True, current, steps, initial=initial, want_final=True)
    return spikes, final


@sequence.constant  # type: ignore[untyped-decorator]
def _program(decay: Any, threshold: float, surrogate: Any, reset: Reset, detach_reset: bool) -> Traced | None:
    """Return the program of a neuron, whose decay is a parameter where it is None here."""
    try:
        neuron = _neuron(decay, threshold, surrogate, reset, detach_reset)
    except TypeError:  # A surrogate that cannot be hashed.
        neuron = _neuron.__wrapped__(decay, threshold, surrogate, reset, detach_reset)
    return sequence.traced(neuron)


@lru_cache(256)
def _neuron(decay: Any, threshold: float, surrogate: Any, reset: Reset, detach_reset: bool) -> LIF:
    """Return the same neuron at each call, so that its step is traced once."""
    if decay is not None:
        return LIF(decay, threshold, surrogate, reset, detach_reset)
    neuron = LIF(0.5, threshold, surrogate, reset, detach_reset)
    del neuron.decay
    neuron.register_buffer("decay", torch.zeros(()))
    return neuron
