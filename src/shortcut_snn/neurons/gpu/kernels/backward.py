"""The template of the backward kernel.

The forward pass saves nothing but x and the residual. A Triton program handles some tiles of positions and channels,
one after the other. For each tile it

1. recomputes the forward pass, and stores the values that the backward pass needs to ``scratch``. That buffer is only
   as large as the tiles in progress, so it stays in the cache;
2. goes back through time, writes the gradient of the current, and adds to its sums per channel.

It reads what the forward kernel reads, grad_spikes, and if not None grad_final. It writes, if not None, grad_current
``[T, ...]``, grad_x ``[1, ...]`` (the sum over time of a constant current's gradient), grad_initial, and as float32
sums ``[parts, 2 + learned per channel, C]`` and learned ``[parts * blocks, P]``. The sums are of the gradient, of the
gradient times x - mean, and of the gradients of the learned parameters per channel. The grid is
``[parts, blocks of channels]``.
"""

TEMPLATE = """
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
    saved_count,
    elements,
    x_step,
    bits_step,
    run,
    channels,
    positions,
    tiles,
    #: constants
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
    space = scratch + program.to(tl.int64) * time_steps * saved_count * size + lane
    whole = tl.full([1, 1], elements, tl.int64)
    if scale is not None:
        valid = channel < channels
        factor = tl.load(scale + channel, mask=valid, other=0.0)[None, :]
        summand = tl.load(shift + channel, mask=valid, other=0.0)[None, :]
        centre = tl.load(mean + channel, mask=valid, other=0.0)[None, :]
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
        saved = space
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
        # A value may be read by another thread than the one that wrote it.
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
