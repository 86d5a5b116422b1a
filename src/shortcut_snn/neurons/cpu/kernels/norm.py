"""The kernels of a batch normalisation: sums for its statistics, and the gradient of its input."""

from functools import cache
from typing import Any

from numba import carray, types

from .build import ELEMENTS, TILE, kernel, loop
from .memory import GRAD_CURRENT, OUT, PARTIAL, ROW, SUM, SUM_X, X, atomic_fetch_add, load, pointer, shifted, store
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
    """Return the address of the kernel that sums a sequence and its squares over all elements of each channel.

    It reads x, all time steps as one, and shift ``[C]``. It writes partials ``[items, 2, C]``, float64. The shift is
    subtracted from the elements, so that a mean far from 0 costs no precision.
    """
    element = ELEMENTS[dtype]

    def statistics(params: Any) -> None:
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


@loop
def _combine(grad: Any, x: Any, a: Any, b: Any, c: Any, out: Any, n: int) -> None:
    for j in range(n):
        value = load(a, j, ROW) * load(grad, j, GRAD_CURRENT) + load(b, j, ROW) * load(x, j, X)
        store(out, j, value + load(c, j, ROW), OUT)


@loop
def _combine_in_place(grad: Any, x: Any, a: Any, b: Any, c: Any, n: int) -> None:
    for j in range(n):
        value = load(a, j, ROW) * load(grad, j, GRAD_CURRENT) + load(b, j, ROW) * load(x, j, X)
        store(grad, j, value + load(c, j, ROW), GRAD_CURRENT)


@loop
def _tile(p: Any, element: Any, space: Any, all_a: Any, all_b: Any, all_c: Any, base: int, n: int) -> None:
    a = expand(all_a, space, base, n, p.run, p.channels)
    b = expand(all_b, shifted(space, TILE), base, n, p.run, p.channels)
    c = expand(all_c, shifted(space, 2 * TILE), base, n, p.run, p.channels)
    grad, x = shifted(pointer(p.grad_current, element), base), shifted(pointer(p.x, element), base)
    if p.grad_x == p.grad_current:
        _combine_in_place(grad, x, a, b, c, n)
    else:
        _combine(grad, x, a, b, c, shifted(pointer(p.grad_x, element), base), n)


@cache
def input_grad_kernel(dtype: str) -> int:
    """Return the address of the kernel that computes ``grad_x = a * grad_current + b * x + c`` per channel.

    It reads x and grad_current, all time steps as one, and a, b, c ``[C]`` (float32) from the fields scale, mean and
    shift. It writes grad_x, which may be grad_current.
    """
    element = ELEMENTS[dtype]

    def input_grad(params: Any) -> None:
        p = carray(params, 1)[0]
        space = pointer(p.workspace + atomic_fetch_add(p.next_thread) * p.thread_bytes, types.float32)
        size = p.channels + TILE
        wrapped = shifted(space, 3 * TILE)
        a = _wrap(pointer(p.scale, types.float32), wrapped, 1, p.run, p.channels)
        b = _wrap(pointer(p.mean, types.float32), shifted(wrapped, size), 1, p.run, p.channels)
        c = _wrap(pointer(p.shift, types.float32), shifted(wrapped, 2 * size), 1, p.run, p.channels)
        item = atomic_fetch_add(p.next_item)
        while item < p.items:
            # In reverse order: the end of what the previous pass touched is still in the cache.
            item_index = p.items - 1 - item
            stop = min((item_index + 1) * p.item_size, p.elements)
            for base in range(item_index * p.item_size, stop, TILE):
                if base + TILE <= stop:
                    _tile(p, element, space, a, b, c, base, TILE)
                else:
                    _tile(p, element, space, a, b, c, base, stop - base)
            item = atomic_fetch_add(p.next_item)

    return kernel(input_grad)
