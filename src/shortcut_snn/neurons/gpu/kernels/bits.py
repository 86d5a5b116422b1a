"""Pack spikes to bits and unpack them; see :mod:`~shortcut_snn.neurons.operators.bits` for the format."""

import triton
import triton.language as tl

from .elements import load, load_bits, store


@triton.jit
def pack_kernel(spikes, bits, elements, bits_step, BYTES: tl.constexpr):
    """Write the bits of spikes; the grid is ``[parts of a time step, time steps]``."""
    byte = tl.program_id(0).to(tl.int64) * BYTES + tl.arange(0, BYTES)
    step = tl.program_id(1).to(tl.int64)
    lane = tl.arange(0, 8)[None, :]
    at = byte[:, None] * 8 + lane
    fired = load(spikes + step * elements + at, at < elements) != 0.0
    packed = tl.sum(fired.to(tl.int32) << lane, axis=1)
    tl.store(bits + step * bits_step + byte, packed.to(tl.uint8), mask=byte < bits_step)


@triton.jit
def unpack_kernel(bits, spikes, elements, bits_step, BLOCK: tl.constexpr):
    """Write the spikes of bits; the grid is ``[parts of a time step, time steps]``."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    step = tl.program_id(1).to(tl.int64)
    inside = at < elements
    store(spikes + step * elements + at, load_bits(bits + step * bits_step, at, inside), inside)
