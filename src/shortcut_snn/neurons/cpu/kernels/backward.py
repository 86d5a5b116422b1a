"""The backward kernel: recompute a tile's membrane potentials, then go back through time.

What the forward pass computed on the way is not kept: x and the residual are enough.
"""

from functools import cache
from typing import Any

import numpy as np
from numba import carray, types

from .bits import unpack_tile
from .build import ELEMENTS, TILE, digest_of, kernel, loop
from .memory import (
    GRAD_CURRENT,
    GRAD_SUM,
    GRAD_U,
    INITIAL,
    LEARNED,
    PARTIAL,
    ROW,
    SOURCE,
    SUM,
    SUM_X,
    U,
    X,
    load,
    pointer,
    shifted,
    store,
    take,
)
from .pattern import make_clear, make_copy, make_cycle, make_spread, make_spread_to, place
from .step import make_backward, total

# A neuron's own step: see :func:`~.build.kernel`.
integrate: Any = None
back: Any = None
fold: Any = None
clear: Any = None
_ZERO = np.float32(0.0)
_spread, _spread_row, _cycle, _cycle_row = make_spread(ROW), make_spread_to(ROW), make_cycle(ROW), make_cycle(SOURCE)
_clear_u, _clear_grad_u, _clear_grad_sum = make_clear(U, _ZERO), make_clear(GRAD_U, _ZERO), make_clear(GRAD_SUM, _ZERO)
_clear_learned, _clear_partial = make_clear(LEARNED, _ZERO), make_clear(PARTIAL, 0.0)
_start_u, _start_grad_u = make_copy(INITIAL, U), make_copy(INITIAL, GRAD_U)
_write_sum, _write_initial = make_copy(GRAD_SUM, GRAD_CURRENT), make_copy(GRAD_U, GRAD_CURRENT)


@loop
def _add_sums(grad_sum: Any, x: Any, mean: Any, sums: Any, sums_x: Any, n: int) -> None:
    """Add a static current's gradient, summed over time, to the sums over elements."""
    for j in range(n):
        g = load(grad_sum, j, GRAD_SUM)
        store(sums, j, load(sums, j, SUM) + g, SUM)
        store(sums_x, j, load(sums_x, j, SUM_X) + g * (load(x, j, X) - load(mean, j, ROW)), SUM_X)


def backward_floats(states: int, rows: int, learned: int, kept: int, time_steps: int) -> int:
    """Return in how many tiles of numbers a thread works, beside its sums per channel."""
    return 5 + 2 * states + rows + learned + kept * time_steps


@cache
def backward_kernel(
    dtype: str, text: str, states: int, scalars: int, rows: int, learn: tuple[str, ...], kept: int, carry: bool,
    normalise: bool, add: bool, packed: bool, static: bool, write: bool,
) -> int:  # fmt: skip
    """Return the address of the kernel for these constants; it takes whole tiles only.

    Sheet: what the forward kernel read, with mean ``[C]`` if it shall ``normalise``; grad_spikes and optionally
    grad_final ``[states, ...]``. Out: grad_current ``[T, ...]`` if it shall ``write`` it, grad_x ``[1, ...]`` (when
    static: the sum over time), partials ``[tasks, 2 + channelwise, C]`` (float64: sums of the gradient, of it times
    x - mean, and of parameters that each channel has), learned ``[tasks, ...]`` (float64: sums of parameters that are
    one number), and optionally grad_initial ``[states, ...]``.
    """
    made, written = make_backward(text, scalars, learn, carry, normalise, add, static, write)
    element, digest = ELEMENTS[dtype], digest_of(written)
    learned_p = sum(name[0] == "p" for name in learn)
    learned_q = len(learn) - learned_p
    by_channel = normalise or learned_q > 0

    def backward(sheet: Any) -> None:
        assert digest
        p = carray(sheet, 1)[0]
        run, channels, steps = p.run, p.channels, p.time_steps
        size = channels + TILE if run == 1 else TILE
        row_size = size if run == 1 and channels % TILE != 0 else channels
        space = pointer(p.workspace + take(p.workers) * p.worker_bytes, types.float32)
        grad_sum, scale_row, shift_row = space, shifted(space, TILE), shifted(space, 2 * TILE)
        mean_row, expanded, u = shifted(space, 3 * TILE), shifted(space, 4 * TILE), shifted(space, 5 * TILE)
        grad_u, own = shifted(u, states * TILE), shifted(u, 2 * states * TILE)
        learned = shifted(own, rows * TILE)
        pre = shifted(learned, learned_p * TILE)
        all_sums = shifted(pre, steps * kept * TILE)
        x, residual, grad_spikes = pointer(p.x, element), pointer(p.residual, element), pointer(p.grad_spikes, element)
        grad_current, grad_x = pointer(p.grad_current, element), pointer(p.grad_x, element)
        initial, grad_initial = pointer(p.initial, element), pointer(p.grad_initial, element)
        grad_final, all_learned = pointer(p.grad_final, element), pointer(p.learned, types.float64)
        scales, shifts = pointer(p.scale, types.float32), pointer(p.shift, types.float32)
        means, partials = pointer(p.mean, types.float32), pointer(p.partials, types.float64)
        numbers, all_rows = pointer(p.numbers, types.float32), pointer(p.rows, types.float32)
        cycles = shifted(all_sums, (2 + learned_q) * size)
        if normalise:
            scales = _cycle(scales, cycles, 1, run, channels)
            shifts = _cycle(shifts, shifted(cycles, size), 1, run, channels)
            means = _cycle(means, shifted(cycles, 2 * size), 1, run, channels)
        all_rows = _cycle_row(all_rows, shifted(cycles, 3 * size), rows, run, channels)
        residual_bits = pointer(p.residual_bits, types.uint8)
        scale, shift, mean, sums, sums_x = scale_row, shift_row, mean_row, all_sums, shifted(all_sums, size)
        ticket = take(p.ticket)
        while ticket < p.tasks:
            partial = shifted(partials, ticket * (2 + learned_q) * channels)
            totals = shifted(all_learned, ticket * learned_p)
            if by_channel:
                _clear_partial(partial, (2 + learned_q) * channels)
                clear(all_sums, size)
            _clear_partial(totals, learned_p)
            _clear_learned(learned, learned_p * TILE)
            start = ticket * p.task_size
            stop = min(start + p.task_size, p.elements)
            for base in range(start, stop, TILE):
                at = p.origin + base
                if normalise:
                    scale = _spread(scales, scale_row, at, TILE, run, channels)
                    shift = _spread(shifts, shift_row, at, TILE, run, channels)
                    mean = _spread(means, mean_row, at, TILE, run, channels)
                if by_channel:
                    sums = place(all_sums, at, run, channels)
                    sums_x = shifted(sums, size)
                for k in range(rows):
                    _spread_row(shifted(all_rows, k * row_size), shifted(own, k * TILE), at, TILE, run, channels)
                if p.initial != 0:
                    for k in range(states):
                        _start_u(shifted(initial, k * p.stride + base), shifted(u, k * TILE), TILE)
                else:
                    _clear_u(u, states * TILE)
                for t in range(steps):
                    x_t, res_t = shifted(x, t * p.x_step + base), shifted(residual, t * p.stride + base)
                    pre_t = shifted(pre, t * kept * TILE)
                    if packed:
                        unpack_tile(shifted(residual_bits, t * p.bits_stride + base // 8), expanded)
                        integrate(x_t, expanded, scale, shift, u, pre_t, numbers, own, TILE)
                    else:
                        integrate(x_t, res_t, scale, shift, u, pre_t, numbers, own, TILE)
                if p.grad_final != 0:
                    for k in range(states):
                        _start_grad_u(shifted(grad_final, k * p.stride + base), shifted(grad_u, k * TILE), TILE)
                else:
                    _clear_grad_u(grad_u, states * TILE)
                if static:
                    _clear_grad_sum(grad_sum, TILE)
                for step in range(steps):
                    t = steps - 1 - step
                    offset = t * p.stride + base
                    back(
                        shifted(pre, t * kept * TILE), shifted(grad_spikes, offset), grad_u,
                        shifted(grad_current, offset), grad_sum, shifted(x, t * p.x_step + base), mean, sums, sums_x,
                        numbers, own, learned, size, TILE,
                    )  # fmt: skip
                for k in range(learned_p):
                    store(totals, k, load(totals, k, PARTIAL) + total(shifted(learned, k * TILE), TILE), PARTIAL)
                _clear_learned(learned, learned_p * TILE)
                if static:
                    _write_sum(grad_sum, shifted(grad_x, base), TILE)
                    if normalise:
                        _add_sums(grad_sum, shifted(x, base), mean, sums, sums_x, TILE)
                if p.grad_initial != 0:
                    for k in range(states):
                        target = shifted(grad_initial, k * p.stride + base)
                        _write_initial(shifted(grad_u, k * TILE), target, TILE)
                if by_channel and (run != 1 or (base - start) % p.fold_every == 0 or base + TILE >= stop):
                    fold(all_sums, partial, at, run, channels, size, TILE)
                    clear(all_sums, size)
            ticket = take(p.ticket)

    return kernel(backward, made)
