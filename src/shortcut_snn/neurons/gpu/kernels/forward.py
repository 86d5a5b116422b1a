"""The template of the forward kernel.

A Triton program handles 8 * BYTES elements, in the order of memory, through all time steps, so their states stay in
registers. It reads x, and if not None the residual (numbers or bits), scale and shift ``[C]``, initial ``[states,
...]``, scalars ``[P]`` and by_channel ``[Q, C]``. It writes spikes, and if not None bits and final ``[states, ...]``.
"""

TEMPLATE = """
def forward_kernel(
    x,
    residual,
    residual_bits,
    scale,
    shift,
    initial,
    scalars,
    by_channel,
    spikes,
    bits,
    final,
    time_steps,
    elements,
    x_step,
    bits_step,
    run,
    channels,
    #: constants
    BYTES: tl.constexpr,
):
    byte = tl.program_id(0).to(tl.int64) * BYTES + tl.arange(0, BYTES)
    lane = tl.arange(0, 8)[None, :]
    at = byte[:, None] * 8 + lane
    inside = at < elements
    whole = tl.full([1, 1], elements, tl.int64)
    channel = at // run % channels
    if scale is not None:
        factor = tl.load(scale + channel, mask=inside, other=0.0)
        summand = tl.load(shift + channel, mask=inside, other=0.0)
    #: parameters
    #: start
    for _ in range(time_steps):
        i = load(x + at, inside)
        x += x_step
        if scale is not None:
            i = i * factor + summand
        if residual is not None:
            i += load(residual + at, inside)
            residual += elements
        if residual_bits is not None:
            i += load_bits(residual_bits, at, inside)
            residual_bits += bits_step
        #: step
        store(spikes + at, y, inside)
        spikes += elements
        if bits is not None:
            # After the last element the bits must be 0.
            fired = (y != 0.0) & inside
            packed = tl.sum(fired.to(tl.int32) << lane, axis=1)
            tl.store(bits + byte, packed.to(tl.uint8), mask=byte < bits_step)
            bits += bits_step
    if final is not None:
        #: finish
"""
