"""From the gradient of the normalised current to that of x: ``a * grad + b * x + c`` for each channel."""

from functools import cache
from typing import Any

from numba import carray, types

from .build import DIGEST, ELEMENTS, TILE, kernel, loop
from .memory import GRAD_CURRENT, OUT, ROW, X, load, pointer, shifted, store, take
from .pattern import make_cycle, make_spread

_spread, _cycle = make_spread(ROW), make_cycle(ROW)


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
    a = _spread(all_a, space, base, n, p.run, p.channels)
    b = _spread(all_b, shifted(space, TILE), base, n, p.run, p.channels)
    c = _spread(all_c, shifted(space, 2 * TILE), base, n, p.run, p.channels)
    grad, x = shifted(pointer(p.grad_current, element), base), shifted(pointer(p.x, element), base)
    if p.grad_x == p.grad_current:
        _combine_in_place(grad, x, a, b, c, n)
    else:
        _combine(grad, x, a, b, c, shifted(pointer(p.grad_x, element), base), n)


@cache
def input_grad_kernel(dtype: str) -> int:
    """Return the kernel's address.

    Sheet: x and grad_current, all time steps as one, and a, b, c ``[C]`` (float32) as scale, mean, shift; out grad_x,
    which may be grad_current.
    """
    element, digest = ELEMENTS[dtype], DIGEST

    def input_grad(sheet: Any) -> None:
        assert digest
        p = carray(sheet, 1)[0]
        space = pointer(p.workspace + take(p.workers) * p.worker_bytes, types.float32)
        size = p.channels + TILE
        cycles = shifted(space, 3 * TILE)
        a = _cycle(pointer(p.scale, types.float32), cycles, 1, p.run, p.channels)
        b = _cycle(pointer(p.mean, types.float32), shifted(cycles, size), 1, p.run, p.channels)
        c = _cycle(pointer(p.shift, types.float32), shifted(cycles, 2 * size), 1, p.run, p.channels)
        ticket = take(p.ticket)
        while ticket < p.tasks:
            # Backwards: what the pass before read and wrote last is still in the cache.
            task = p.tasks - 1 - ticket
            stop = min((task + 1) * p.task_size, p.elements)
            for base in range(task * p.task_size, stop, TILE):
                if base + TILE <= stop:
                    _tile(p, element, space, a, b, c, base, TILE)
                else:
                    _tile(p, element, space, a, b, c, base, stop - base)
            ticket = take(p.ticket)

    return kernel(input_grad)
