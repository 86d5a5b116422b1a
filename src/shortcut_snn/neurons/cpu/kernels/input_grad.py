"""Compute the gradient of x from that of the normalised current: ``a * grad + b * x + c`` per channel."""

from functools import cache
from typing import Any

from numba import carray, types

from .build import DIGEST, ELEMENTS, TILE, kernel, loop
from .memory import GRAD_CURRENT, OUT, ROW, X, atomic_fetch_add, load, pointer, shifted, store
from .pattern import expand, make_wrap

_wrap = make_wrap(ROW)


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
    """Return the address of the kernel.

    It reads x and grad_current, all time steps as one, and a, b, c ``[C]`` (float32) from the fields scale, mean and
    shift. It writes grad_x, which may be grad_current.
    """
    element, digest = ELEMENTS[dtype], DIGEST

    def input_grad(params: Any) -> None:
        assert digest
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
