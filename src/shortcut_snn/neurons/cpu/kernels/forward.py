"""The forward kernel: normalise, add the residual, integrate and fire, one tile over all time steps."""

from functools import cache
from typing import Any

import numpy as np
from numba import carray, types

from .bits import pack_tile, unpack_tile
from .build import ELEMENTS, TILE, digest_of, kernel
from .memory import FINAL, INITIAL, ROW, SOURCE, U, pointer, shifted, take
from .pattern import make_clear, make_copy, make_cycle, make_spread, make_spread_to
from .step import make_forward

# A neuron's own step: see :func:`~.build.kernel`.
fire: Any = None
_spread, _spread_row, _cycle, _cycle_row = make_spread(ROW), make_spread_to(ROW), make_cycle(ROW), make_cycle(SOURCE)
_clear_u, _start_u, _finish_u = make_clear(U, np.float32(0.0)), make_copy(INITIAL, U), make_copy(U, FINAL)


def forward_floats(states: int, rows: int) -> int:
    """Return in how many tiles of numbers a thread works."""
    return states + rows + 3


@cache
def forward_kernel(
    dtype: str, text: str, states: int, scalars: int, rows: int, normalise: bool, add: bool, packed: bool
) -> int:
    """Return the address of the kernel for these constants; it takes whole tiles only.

    Sheet: x, the residual if there is one to ``add`` (as residual_bits if ``packed``), scale and shift ``[C]``
    (float32) if it shall ``normalise``, numbers, rows ``[rows, C]``, and optionally initial ``[states, ...]``; out
    spikes and optionally bits and final ``[states, ...]``.
    """
    made, written = make_forward(text, scalars, normalise, add)
    element, digest = ELEMENTS[dtype], digest_of(written)

    def forward(sheet: Any) -> None:
        assert digest
        p = carray(sheet, 1)[0]
        space = pointer(p.workspace + take(p.workers) * p.worker_bytes, types.float32)
        row, other_row, expanded = space, shifted(space, TILE), shifted(space, 2 * TILE)
        own, u = shifted(space, 3 * TILE), shifted(space, (3 + rows) * TILE)
        x, residual, out = pointer(p.x, element), pointer(p.residual, element), pointer(p.out, element)
        initial, final = pointer(p.initial, element), pointer(p.final, element)
        bits, residual_bits = pointer(p.bits, types.uint8), pointer(p.residual_bits, types.uint8)
        numbers, size = pointer(p.numbers, types.float32), p.channels + TILE
        cycles = shifted(u, states * TILE)
        scales, shifts = pointer(p.scale, types.float32), pointer(p.shift, types.float32)
        if normalise:
            scales = _cycle(scales, cycles, 1, p.run, p.channels)
            shifts = _cycle(shifts, shifted(cycles, size), 1, p.run, p.channels)
        all_rows = pointer(p.rows, types.float32)
        all_rows = _cycle_row(all_rows, shifted(cycles, 2 * size), rows, p.run, p.channels)
        row_size = size if p.run == 1 and p.channels % TILE != 0 else p.channels
        scale, shift = row, other_row
        ticket = take(p.ticket)
        while ticket < p.tasks:
            # Backwards: what the statistics read last is still in the cache.
            task = p.tasks - 1 - ticket
            for base in range(task * p.task_size, min((task + 1) * p.task_size, p.elements), TILE):
                if normalise:
                    scale = _spread(scales, row, p.origin + base, TILE, p.run, p.channels)
                    shift = _spread(shifts, other_row, p.origin + base, TILE, p.run, p.channels)
                for k in range(rows):
                    source = shifted(all_rows, k * row_size)
                    _spread_row(source, shifted(own, k * TILE), p.origin + base, TILE, p.run, p.channels)
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
                        unpack_tile(shifted(residual_bits, word), expanded)
                        fire(x_t, expanded, scale, shift, u, out_t, numbers, own, TILE)
                    else:
                        fire(x_t, res_t, scale, shift, u, out_t, numbers, own, TILE)
                    if p.bits != 0:
                        pack_tile(out_t, shifted(bits, word))
                if p.final != 0:
                    for k in range(states):
                        _finish_u(shifted(u, k * TILE), shifted(final, k * p.stride + base), TILE)
            ticket = take(p.ticket)

    return kernel(forward, made)
