"""Compute the gradient of x from that of the normalised current: ``a * grad + b * x + c`` per channel."""

import triton
import triton.language as tl

from .elements import load, store


@triton.jit
def input_grad_kernel(grad, x, out, a, b, c, elements, run, channels, BLOCK: tl.constexpr):
    """Write out, which may be grad, from grad and x (all time steps as one) and a, b, c ``[C]`` (float32)."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < elements
    channel = at // run % channels
    value = tl.load(a + channel, mask=inside, other=0.0) * load(grad + at, inside)
    value += tl.load(b + channel, mask=inside, other=0.0) * load(x + at, inside)
    store(out + at, value + tl.load(c + channel, mask=inside, other=0.0), inside)
