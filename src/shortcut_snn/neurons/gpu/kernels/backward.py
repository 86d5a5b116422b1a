"""The backward kernel: recompute a tile's steps, then go back through time.

What the forward pass computed on the way is not kept: x and the residual are enough. What the way back needs of a tile
goes through ``scratch``, which is as large as the tiles that are under way and so stays in the cache.
"""

# Reads what the forward kernel read, grad_spikes and grad_final; writes the gradient of the current, to grad_current
# [T, ...] (may be None if x is static), and if it is, its sum over time to grad_x [1, ...]. Also, where they are not
# None: grad_initial, sums [parts, 2 + channelwise, C] (of the gradient, of it times x - mean, and of parameters that
# each channel has) and learned [parts * blocks, P], float32. Programs are [parts, blocks of channels].
SKELETON = """
def backward_kernel(
    x,
    residual,
    residual_bits,
    scale,
    shift,
    mean,
    initial,
    scalars,
    by_channel,
    grad_spikes,
    grad_final,
    grad_current,
    grad_x,
    grad_initial,
    sums,
    learned,
    scratch,
    time_steps,
    kept,
    elements,
    x_step,
    bits_step,
    run,
    channels,
    positions,
    tiles,
    #: numbers
    STATIC: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    part = tl.program_id(0)
    parts = tl.num_programs(0)
    program = tl.program_id(1) * parts + part
    channel = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    size = BLOCK_P * BLOCK_C
    lane = tl.arange(0, BLOCK_P)[:, None] * BLOCK_C + tl.arange(0, BLOCK_C)[None, :]
    space = scratch + program.to(tl.int64) * time_steps * kept * size + lane
    whole = tl.full([1, 1], elements, tl.int64)
    if scale is not None:
        known = channel < channels
        factor = tl.load(scale + channel, mask=known, other=0.0)[None, :]
        summand = tl.load(shift + channel, mask=known, other=0.0)[None, :]
        centre = tl.load(mean + channel, mask=known, other=0.0)[None, :]
    #: parameters
    total = tl.zeros([BLOCK_P, BLOCK_C], tl.float32)
    total_x = tl.zeros([BLOCK_P, BLOCK_C], tl.float32)
    #: totals
    for tile_number in range(part, tiles, parts):
        at, inside = tile(tile_number, channel, positions, channels, run, BLOCK_P)
        #: start
        x_t = x
        if residual is not None:
            residual_t = residual
        if residual_bits is not None:
            bits_t = residual_bits
        pre = space
        for _ in range(time_steps):
            i = load(x_t + at, inside)
            x_t += x_step
            if scale is not None:
                i = i * factor + summand
            if residual is not None:
                i += load(residual_t + at, inside)
                residual_t += elements
            if residual_bits is not None:
                i += load_bits(bits_t, at, inside)
                bits_t += bits_step
            #: step
        # Who reads a value need not be the thread that wrote it.
        tl.debug_barrier()
        summed = tl.zeros([BLOCK_P, BLOCK_C], tl.float32)
        #: end
        last = (tl.full([1, 1], time_steps, tl.int64) - 1) * elements
        spikes_t = grad_spikes + last + at
        if grad_current is not None:
            current_t = grad_current + last + at
        for _ in range(time_steps):
            gy = load(spikes_t, inside)
            #: back
            spikes_t -= elements
            if grad_current is not None:
                store(current_t, gi, inside)
                current_t -= elements
            if STATIC:
                summed += gi
            elif scale is not None:
                x_t -= x_step
                total += gi
                total_x += gi * (load(x_t + at, inside) - centre)
        tl.debug_barrier()
        if STATIC:
            store(grad_x + at, summed, inside)
            if scale is not None:
                total += summed
                total_x += summed * (load(x + at, inside) - centre)
        if grad_initial is not None:
            #: finish
    if sums is not None:
        out = sums + part * (2 + CHANNELWISE) * channels + channel
        tl.store(out, tl.sum(total, axis=0), mask=channel < channels)
        tl.store(out + channels, tl.sum(total_x, axis=0), mask=channel < channels)
        #: sums
    if learned is not None:
        #: learned
"""
