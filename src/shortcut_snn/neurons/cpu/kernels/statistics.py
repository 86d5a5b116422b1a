"""Sums of a sequence and of its squares for each channel: what batch statistics are made of.

The values are taken relative to a first value of the channel (``shift``), so that a mean far from 0 costs no digits.
"""

from functools import cache
from typing import Any

import numpy as np
from numba import carray, types

from .build import DIGEST, ELEMENTS, TILE, kernel, loop
from .memory import PARTIAL, ROW, SUM, SUM_X, X, load, pointer, shifted, store, take
from .pattern import make_clear, make_cycle, make_fold, make_spread, place

_ZERO = np.float32(0.0)
_spread, _cycle = make_spread(ROW), make_cycle(ROW)
_fold_sum, _fold_square = make_fold(SUM), make_fold(SUM_X)
_clear_sum, _clear_square, _clear_partial = make_clear(SUM, _ZERO), make_clear(SUM_X, _ZERO), make_clear(PARTIAL, 0.0)


@loop
def _accumulate(x: Any, shift: Any, sums: Any, squares: Any, n: int) -> None:
    for j in range(n):
        value = load(x, j, X) - load(shift, j, ROW)
        store(sums, j, load(sums, j, SUM) + value, SUM)
        store(squares, j, load(squares, j, SUM_X) + value * value, SUM_X)


@cache
def statistics_kernel(dtype: str) -> int:
    """Return the kernel's address.

    Sheet: x, all time steps as one, shift ``[C]``; out partials ``[tasks, 2, C]`` (float64).
    """
    element, digest = ELEMENTS[dtype], DIGEST

    def statistics(sheet: Any) -> None:
        assert digest
        p = carray(sheet, 1)[0]
        run, channels = p.run, p.channels
        size = channels + TILE if run == 1 else TILE
        row = pointer(p.workspace + take(p.workers) * p.worker_bytes, types.float32)
        sums, squares = shifted(row, TILE), shifted(row, TILE + size)
        x = pointer(p.x, element)
        source = _cycle(pointer(p.shift, types.float32), shifted(row, TILE + 2 * size), 1, run, channels)
        ticket = take(p.ticket)
        while ticket < p.tasks:
            partial = shifted(pointer(p.partials, types.float64), ticket * 2 * channels)
            _clear_partial(partial, 2 * channels)
            _clear_sum(sums, size)
            _clear_square(squares, size)
            start = ticket * p.task_size
            stop = min(start + p.task_size, p.elements)
            for base in range(start, stop, TILE):
                n = min(TILE, stop - base)
                shift = _spread(source, row, base, n, run, channels)
                at_sums, at_squares = place(sums, base, run, channels), place(squares, base, run, channels)
                if n == TILE:
                    _accumulate(shifted(x, base), shift, at_sums, at_squares, TILE)
                else:
                    _accumulate(shifted(x, base), shift, at_sums, at_squares, n)
                if run != 1 or (base - start) % p.fold_every == 0 or base + TILE >= stop:
                    _fold_sum(sums, partial, base, n, run, channels)
                    _fold_square(squares, shifted(partial, channels), base, n, run, channels)
                    _clear_sum(sums, size)
                    _clear_square(squares, size)
            ticket = take(p.ticket)

    return kernel(statistics)
