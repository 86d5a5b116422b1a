"""The backward kernel: recompute a tile's membrane potentials, then go back through time.

What the forward pass computed on the way is not kept: x and the residual are enough. Potentials of a tile go through
``scratch``, which is as large as the tiles that are under way and so stays in the cache.
"""

import triton
import triton.language as tl

from .elements import load, load_bits, store
from .neuron import reset, slope
from .tile import tile


@triton.jit
def backward_kernel(
    x,
    residual,
    residual_bits,
    scale,
    shift,
    mean,
    initial,
    tau,
    grad_spikes,
    grad_final,
    grad_current,
    grad_x,
    grad_initial,
    sums,
    tau_sums,
    scratch,
    threshold,
    first,
    second,
    time_steps,
    elements,
    x_step,
    bits_step,
    run,
    channels,
    positions,
    tiles,
    STATIC: tl.constexpr,
    SOFT: tl.constexpr,
    ATTACHED: tl.constexpr,
    SURROGATE: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Read what the forward kernel read, grad_spikes and grad_final; write the gradient of the current.

    To grad_current ``[T, ...]`` (may be None if x is static), and if it is, its sum over time to grad_x ``[1, ...]``.
    Also, where they are not None: grad_initial, sums ``[parts, 2, C]`` (of the gradient, and of it times x - mean) and
    tau_sums ``[parts * blocks]``, float32. Programs are ``[parts, blocks of channels]``.
    """
    part = tl.program_id(0)
    parts = tl.num_programs(0)
    program = tl.program_id(1) * parts + part
    channel = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    size = BLOCK_P * BLOCK_C
    lane = tl.arange(0, BLOCK_P)[:, None] * BLOCK_C + tl.arange(0, BLOCK_C)[None, :]
    space = scratch + program.to(tl.int64) * time_steps * size + lane
    decay = tl.load(tau).to(tl.float32)
    if scale is not None:
        known = channel < channels
        factor = tl.load(scale + channel, mask=known, other=0.0)[None, :]
        summand = tl.load(shift + channel, mask=known, other=0.0)[None, :]
        centre = tl.load(mean + channel, mask=known, other=0.0)[None, :]
    total = tl.zeros([BLOCK_P, BLOCK_C], tl.float32)
    total_x = tl.zeros([BLOCK_P, BLOCK_C], tl.float32)
    total_tau = tl.zeros([BLOCK_P, BLOCK_C], tl.float32)
    for number in range(part, tiles, parts):
        at, inside = tile(number, channel, positions, channels, run, BLOCK_P)
        start = load(initial + at, inside) if initial is not None else tl.zeros([BLOCK_P, BLOCK_C], tl.float32)
        u = start
        x_t = x
        if residual is not None:
            residual_t = residual
        if residual_bits is not None:
            bits_t = residual_bits
        pre = space
        for _ in range(time_steps):
            current = load(x_t + at, inside)
            x_t += x_step
            if scale is not None:
                current = current * factor + summand
            if residual is not None:
                current += load(residual_t + at, inside)
                residual_t += elements
            if residual_bits is not None:
                current += load_bits(bits_t, at, inside)
                bits_t += bits_step
            u_pre = decay * u + current
            u = reset(u_pre, u_pre > threshold, threshold, SOFT)
            tl.store(pre, u_pre)
            pre += size
        # Who reads a potential need not be the thread that wrote it.
        tl.debug_barrier()
        # "later": the gradient of the next step's u_pre. "after": of this step's u, which has not decayed at the end.
        later = tl.zeros([BLOCK_P, BLOCK_C], tl.float32)
        summed = tl.zeros([BLOCK_P, BLOCK_C], tl.float32)
        after = load(grad_final + at, inside) if grad_final is not None else tl.zeros([BLOCK_P, BLOCK_C], tl.float32)
        last = (tl.full([1, 1], time_steps, tl.int64) - 1) * elements
        spikes_t = grad_spikes + last + at
        if grad_current is not None:
            current_t = grad_current + last + at
        for _ in range(time_steps):
            pre -= size
            u_pre = tl.load(pre)
            fired = u_pre > threshold
            ds = slope(u_pre - threshold, first, second, SURROGATE)
            if tau_sums is not None:
                total_tau += later * reset(u_pre, fired, threshold, SOFT)
            if SOFT:
                carried = after
                lever = threshold
            else:
                carried = tl.where(fired, 0.0, after)
                lever = u_pre
            if ATTACHED:
                carried = carried - after * lever * ds
            later = load(spikes_t, inside) * ds + carried
            after = later * decay
            spikes_t -= elements
            if grad_current is not None:
                store(current_t, later, inside)
                current_t -= elements
            if STATIC:
                summed += later
            elif sums is not None:
                x_t -= x_step
                total += later
                total_x += later * (load(x_t + at, inside) - centre)
        tl.debug_barrier()
        if tau_sums is not None and initial is not None:
            total_tau += later * start
        if STATIC:
            store(grad_x + at, summed, inside)
            if sums is not None:
                total += summed
                total_x += summed * (load(x + at, inside) - centre)
        if grad_initial is not None:
            store(grad_initial + at, after, inside)
    if sums is not None:
        out = sums + part * 2 * channels + channel
        tl.store(out, tl.sum(total, axis=0), mask=channel < channels)
        tl.store(out + channels, tl.sum(total_x, axis=0), mask=channel < channels)
    if tau_sums is not None:
        tl.store(tau_sums + program, tl.sum(total_tau))
