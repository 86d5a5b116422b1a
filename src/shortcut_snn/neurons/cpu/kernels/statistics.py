"""Sum a sequence and its squares over all elements of each channel, for batch statistics.

The first value of a channel (``shift``) is subtracted from its elements, so that a mean far from 0 costs no precision.
"""

from functools import cache
from typing import Any

from numba import carray, types

from .build import DIGEST, ELEMENTS, TILE, kernel, loop
from .memory import PARTIAL, ROW, SUM, SUM_X, X, atomic_fetch_add, load, pointer, shifted, store
from .pattern import expand, make_clear, make_fold, make_wrap, sums_at

_wrap = make_wrap(ROW)
_fold_sum, _fold_square = make_fold(SUM), make_fold(SUM_X)
_clear_sum, _clear_square, _clear_partial = make_clear(SUM), make_clear(SUM_X), make_clear(PARTIAL)


@loop
def _accumulate(x: Any, shift: Any, sums: Any, squares: Any, n: int) -> None:
    for j in range(n):
        value = load(x, j, X) - load(shift, j, ROW)
        store(sums, j, load(sums, j, SUM) + value, SUM)
        store(squares, j, load(squares, j, SUM_X) + value * value, SUM_X)


@cache
def statistics_kernel(dtype: str) -> int:
    """Return the address of the kernel.

    It reads x, all time steps as one, and shift ``[C]``. It writes partials ``[items, 2, C]``, float64.
    """
    element, digest = ELEMENTS[dtype], DIGEST

    def statistics(params: Any) -> None:
        assert digest
        p = carray(params, 1)[0]
        run, channels = p.run, p.channels
        size = channels + TILE if run == 1 else TILE
        row = pointer(p.workspace + atomic_fetch_add(p.next_thread) * p.thread_bytes, types.float32)
        sums, squares = shifted(row, TILE), shifted(row, TILE + size)
        x = pointer(p.x, element)
        source = _wrap(pointer(p.shift, types.float32), shifted(row, TILE + 2 * size), 1, run, channels)
        item = atomic_fetch_add(p.next_item)
        while item < p.items:
            partial = shifted(pointer(p.partials, types.float64), item * 2 * channels)
            _clear_partial(partial, 2 * channels)
            _clear_sum(sums, size)
            _clear_square(squares, size)
            start = item * p.item_size
            stop = min(start + p.item_size, p.elements)
            for base in range(start, stop, TILE):
                n = min(TILE, stop - base)
                shift = expand(source, row, base, n, run, channels)
                at_sums, at_squares = sums_at(sums, base, run, channels), sums_at(squares, base, run, channels)
                if n == TILE:
                    _accumulate(shifted(x, base), shift, at_sums, at_squares, TILE)
                else:
                    _accumulate(shifted(x, base), shift, at_sums, at_squares, n)
                if run != 1 or (base - start) % p.fold_every == 0 or base + TILE >= stop:
                    _fold_sum(sums, partial, base, n, run, channels)
                    _fold_square(squares, shifted(partial, channels), base, n, run, channels)
                    _clear_sum(sums, size)
                    _clear_square(squares, size)
            item = atomic_fetch_add(p.next_item)

    return kernel(statistics)
