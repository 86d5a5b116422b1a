"""The forward kernel: a program takes its elements through all time steps, so the membrane stays in registers."""

import triton
import triton.language as tl

from .elements import load, load_bits, store
from .neuron import reset


@triton.jit
def forward_kernel(
    x,
    residual,
    residual_bits,
    scale,
    shift,
    initial,
    tau,
    spikes,
    bits,
    final,
    threshold,
    time_steps,
    elements,
    x_step,
    bits_step,
    run,
    channels,
    SOFT: tl.constexpr,
    BYTES: tl.constexpr,
):
    """Read x and what there is of residual (numbers or bits), scale and shift ``[C]``, initial; write spikes.

    Also bits and final, where they are not None. A program takes 8 * BYTES elements in the order of memory.
    """
    byte = tl.program_id(0).to(tl.int64) * BYTES + tl.arange(0, BYTES)
    place = tl.arange(0, 8)[None, :]
    at = byte[:, None] * 8 + place
    inside = at < elements
    if scale is not None:
        channel = at // run % channels
        factor = tl.load(scale + channel, mask=inside, other=0.0)
        summand = tl.load(shift + channel, mask=inside, other=0.0)
    u = load(initial + at, inside) if initial is not None else tl.zeros([BYTES, 8], tl.float32)
    decay = tl.load(tau).to(tl.float32)
    for _ in range(time_steps):
        current = load(x + at, inside)
        x += x_step
        if scale is not None:
            current = current * factor + summand
        if residual is not None:
            current += load(residual + at, inside)
            residual += elements
        if residual_bits is not None:
            current += load_bits(residual_bits, at, inside)
            residual_bits += bits_step
        u_pre = decay * u + current
        # Behind the last element there are no spikes.
        fired = (u_pre > threshold) & inside
        u = reset(u_pre, fired, threshold, SOFT)
        store(spikes + at, fired.to(tl.float32), inside)
        spikes += elements
        if bits is not None:
            packed = tl.sum(fired.to(tl.int32) << place, axis=1)
            tl.store(bits + byte, packed.to(tl.uint8), mask=byte < bits_step)
            bits += bits_step
    if final is not None:
        store(final + at, u, inside)
