"""The forward kernel: normalise, add the residual, integrate and fire, one tile over all time steps."""

from functools import cache
from typing import Any

import numpy as np
from numba import carray, types

from .bits import pack_tile, unpack_tile
from .build import DIGEST, ELEMENTS, TILE, kernel
from .memory import FINAL, INITIAL, SCALE, SHIFT, U, pointer, shifted, take
from .neuron import make_fire
from .pattern import make_clear, make_copy, make_spread

_fire, _fire_add = make_fire(False, False), make_fire(False, True)
_fire_norm, _fire_norm_add = make_fire(True, False), make_fire(True, True)
_spread_scale, _spread_shift = make_spread(SCALE), make_spread(SHIFT)
_clear_u, _start_u, _finish_u = make_clear(U, np.float32(0.0)), make_copy(INITIAL, U), make_copy(U, FINAL)


@cache
def forward_kernel(dtype: str, normalise: bool, add: bool, packed: bool, soft: bool) -> int:
    """Return the address of the kernel for these constants; it takes whole tiles only.

    Sheet: x, the residual if there is one to ``add`` (as residual_bits if ``packed``), scale and shift ``[C]``
    (float32) if it shall ``normalise``, and optionally initial; out spikes and optionally bits and final.
    """
    element, digest = ELEMENTS[dtype], DIGEST

    def forward(sheet: Any) -> None:
        assert digest
        p = carray(sheet, 1)[0]
        u = pointer(p.workspace + take(p.workers) * p.worker_bytes, types.float32)
        row, other_row = shifted(u, TILE), shifted(u, 2 * TILE)
        x, residual, out = pointer(p.x, element), pointer(p.residual, element), pointer(p.out, element)
        initial, final = pointer(p.initial, element), pointer(p.final, element)
        bits, residual_bits = pointer(p.bits, types.uint8), pointer(p.residual_bits, types.uint8)
        expanded = shifted(u, 3 * TILE)
        scales, shifts = pointer(p.scale, types.float32), pointer(p.shift, types.float32)
        tau, threshold = np.float32(p.tau), np.float32(p.threshold)
        scale, shift = row, other_row
        ticket = take(p.ticket)
        while ticket < p.tasks:
            # Backwards: what the statistics read last is still in the cache.
            task = p.tasks - 1 - ticket
            for base in range(task * p.task_size, min((task + 1) * p.task_size, p.elements), TILE):
                if normalise:
                    scale = _spread_scale(scales, row, p.origin + base, TILE, p.run, p.channels)
                    shift = _spread_shift(shifts, other_row, p.origin + base, TILE, p.run, p.channels)
                if p.initial != 0:
                    _start_u(shifted(initial, base), u, TILE)
                else:
                    _clear_u(u, TILE)
                for t in range(p.time_steps):
                    offset = t * p.stride + base
                    x_t, res_t, out_t = shifted(x, t * p.x_step + base), shifted(residual, offset), shifted(out, offset)
                    word = t * p.bits_stride + base // 8
                    if packed:
                        unpack_tile(shifted(residual_bits, word), expanded)
                    if packed and normalise:
                        _fire_norm_add(x_t, expanded, scale, shift, u, out_t, tau, threshold, soft, TILE)
                    elif packed:
                        _fire_add(x_t, expanded, scale, shift, u, out_t, tau, threshold, soft, TILE)
                    elif normalise and add:
                        _fire_norm_add(x_t, res_t, scale, shift, u, out_t, tau, threshold, soft, TILE)
                    elif normalise:
                        _fire_norm(x_t, res_t, scale, shift, u, out_t, tau, threshold, soft, TILE)
                    elif add:
                        _fire_add(x_t, res_t, scale, shift, u, out_t, tau, threshold, soft, TILE)
                    else:
                        _fire(x_t, res_t, scale, shift, u, out_t, tau, threshold, soft, TILE)
                    if p.bits != 0:
                        pack_tile(out_t, shifted(bits, word))
                if p.final != 0:
                    _finish_u(u, shifted(final, base), TILE)
            ticket = take(p.ticket)

    return kernel(forward)
