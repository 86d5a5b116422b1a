"""The forward kernel: normalise, add the residual, integrate and fire.

For each work item, and for each tile in it:

1. Expand the norm's scale and shift, and the parameters per channel, to one number for each element of the tile.
2. Set the states to their initial values.
3. For each time step, run the neuron's own loop (``fire``): it reads x and the residual, updates the states, and writes
   spikes. If wanted, pack these to bits, and also the support of the surrogate: the elements whose slope is not 0.
4. Write the final states, if wanted.
"""

from functools import cache
from typing import Any

from numba import carray, types

from .bits import pack_tile, unpack_tile
from .build import ELEMENTS, TILE, kernel, source_digest
from .memory import FINAL, INITIAL, ROW, SOURCE, U, atomic_fetch_add, pointer, shifted
from .pattern import expand, expand_into, make_clear, make_copy, make_wrap
from .step import make_forward

# The neuron's generated loop, which build.kernel binds to this name.
fire: Any = None
_wrap, _wrap_row = make_wrap(ROW), make_wrap(SOURCE)
_clear_u, _start_u, _finish_u = make_clear(U), make_copy(INITIAL, U), make_copy(U, FINAL)


def forward_floats(states: int, rows: int) -> int:
    """Return the workspace of a thread in tiles of float32, without its values per channel."""
    return states + rows + 4


@cache
def forward_kernel(
    dtype: str, text: str, states: int, scalars: int, rows: int, normalise: bool, add: bool, packed: bool,
    slope: str | None,
) -> int:  # fmt: skip
    """Return the address of the kernel for these compile-time constants; it handles whole tiles.

    It reads x, numbers (scalars, then constants), rows ``[rows, C]`` (parameters per channel), if ``normalise`` scale
    and shift ``[C]``, if ``add`` the residual (residual_bits if ``packed``), and optionally initial ``[states, ...]``.
    It writes out, optionally bits and final ``[states, ...]``, and with the name of a ``slope`` the support as bits.
    """
    loops, source = make_forward(text, scalars, normalise, add, slope)
    write_support = slope is not None
    element, digest = ELEMENTS[dtype], source_digest(source)

    def forward(params: Any) -> None:
        assert digest  # Part of the key of numba's cache.
        p = carray(params, 1)[0]
        space = pointer(p.workspace + atomic_fetch_add(p.next_thread) * p.thread_bytes, types.float32)
        scale_row, shift_row, unpacked = space, shifted(space, TILE), shifted(space, 2 * TILE)
        slopes, tile_rows, u = shifted(space, 3 * TILE), shifted(space, 4 * TILE), shifted(space, (4 + rows) * TILE)
        x, residual, out = pointer(p.x, element), pointer(p.residual, element), pointer(p.out, element)
        initial, final = pointer(p.initial, types.float32), pointer(p.final, types.float32)
        bits, residual_bits = pointer(p.bits, types.uint8), pointer(p.residual_bits, types.uint8)
        support = pointer(p.support, types.uint8)
        numbers, size = pointer(p.numbers, types.float32), p.channels + TILE
        wrapped = shifted(u, states * TILE)
        scales, shifts = pointer(p.scale, types.float32), pointer(p.shift, types.float32)
        if normalise:
            scales = _wrap(scales, wrapped, 1, p.run, p.channels)
            shifts = _wrap(shifts, shifted(wrapped, size), 1, p.run, p.channels)
        all_rows = pointer(p.rows, types.float32)
        all_rows = _wrap_row(all_rows, shifted(wrapped, 2 * size), rows, p.run, p.channels)
        row_size = size if p.run == 1 and p.channels % TILE != 0 else p.channels
        scale, shift = scale_row, shift_row
        item = atomic_fetch_add(p.next_item)
        while item < p.items:
            # In reverse order: the end of x, which the statistics read last, is still in the cache.
            item_index = p.items - 1 - item
            for base in range(item_index * p.item_size, min((item_index + 1) * p.item_size, p.elements), TILE):
                if normalise:
                    scale = expand(scales, scale_row, p.origin + base, TILE, p.run, p.channels)
                    shift = expand(shifts, shift_row, p.origin + base, TILE, p.run, p.channels)
                for k in range(rows):
                    source = shifted(all_rows, k * row_size)
                    expand_into(source, shifted(tile_rows, k * TILE), p.origin + base, TILE, p.run, p.channels)
                if p.initial != 0:
                    for k in range(states):
                        _start_u(shifted(initial, k * p.stride + base), shifted(u, k * TILE), TILE)
                else:
                    _clear_u(u, states * TILE)
                for t in range(p.time_steps):
                    offset = t * p.stride + base
                    x_t, res_t, out_t = shifted(x, t * p.x_step + base), shifted(residual, offset), shifted(out, offset)
                    word = t * p.bits_stride + base // 8
                    if packed:
                        unpack_tile(shifted(residual_bits, word), unpacked)
                        fire(x_t, unpacked, scale, shift, u, out_t, numbers, tile_rows, slopes, TILE)
                    else:
                        fire(x_t, res_t, scale, shift, u, out_t, numbers, tile_rows, slopes, TILE)
                    if p.bits != 0:
                        pack_tile(out_t, shifted(bits, word))
                    if write_support:
                        pack_tile(slopes, shifted(support, word))
                if p.final != 0:
                    for k in range(states):
                        _finish_u(shifted(u, k * TILE), shifted(final, k * p.stride + base), TILE)
            item = atomic_fetch_add(p.next_item)

    return kernel(forward, loops)
