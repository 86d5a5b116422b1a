"""The backward kernel: recompute a tile's membrane potentials, then go back through time.

What the forward pass computed on the way is not kept: x and the residual are enough.
"""

from functools import cache
from typing import Any

import numpy as np
from numba import carray, types

from .bits import unpack_tile
from .build import DIGEST, ELEMENTS, TILE, kernel, loop
from .memory import (
    GRAD_CURRENT,
    GRAD_SUM,
    GRAD_U,
    INITIAL,
    MEAN,
    PARTIAL,
    SCALE,
    SHIFT,
    SUM,
    SUM_X,
    U,
    load,
    pointer,
    shifted,
    store,
    take,
)
from .neuron import add_sums, make_back, make_integrate, tau_sum, tau_sum_initial
from .pattern import make_clear, make_copy, make_fold, make_spread, place
from .surrogate import slope

_ZERO, _ONE = np.float32(0.0), np.float32(1.0)
_integrate, _integrate_add = make_integrate(False, False), make_integrate(False, True)
_integrate_norm, _integrate_norm_add = make_integrate(True, False), make_integrate(True, True)
_back, _back_norm, _back_static = make_back(False, False), make_back(True, False), make_back(True, True)
_spread_scale, _spread_shift, _spread_mean = make_spread(SCALE), make_spread(SHIFT), make_spread(MEAN)
_fold_sum, _fold_sum_x = make_fold(SUM), make_fold(SUM_X)
_clear_u, _clear_grad_u, _clear_grad_sum = make_clear(U, _ZERO), make_clear(GRAD_U, _ZERO), make_clear(GRAD_SUM, _ZERO)
_clear_sum, _clear_sum_x, _clear_partial = make_clear(SUM, _ZERO), make_clear(SUM_X, _ZERO), make_clear(PARTIAL, 0.0)
_start_u, _start_grad_u = make_copy(INITIAL, U), make_copy(INITIAL, GRAD_U)
_write_sum, _write_step = make_copy(GRAD_SUM, GRAD_CURRENT), make_copy(GRAD_U, GRAD_CURRENT)


@loop
def _write_initial(grad_u: Any, out: Any, tau: float, n: int) -> None:
    for j in range(n):
        store(out, j, load(grad_u, j, GRAD_U) * tau, GRAD_CURRENT)


@cache
def backward_kernel(
    dtype: str,
    normalise: bool,
    add: bool,
    packed: bool,
    static: bool,
    soft: bool,
    attached: bool,
    learn_tau: bool,
    surrogate: int,
) -> int:
    """Return the address of the kernel for these constants; it takes whole tiles only.

    Sheet: what the forward kernel read, with mean ``[C]`` if it shall ``normalise``; grad_spikes and optionally
    grad_final. Out: grad_current ``[T, ...]`` (may be absent when static), grad_x ``[1, ...]`` (when static: the sum
    over time), partials ``[tasks, 2, C]`` (float64: sums of the gradient, and of it times x - mean), tau_partials
    ``[tasks]`` (float64) if it shall ``learn_tau``, and optionally grad_initial.
    """
    element, digest = ELEMENTS[dtype], DIGEST

    def backward(sheet: Any) -> None:
        assert digest
        p = carray(sheet, 1)[0]
        run, channels, steps = p.run, p.channels, p.time_steps
        size = channels + TILE if run == 1 else TILE
        space = pointer(p.workspace + take(p.workers) * p.worker_bytes, types.float32)
        u, grad_u, grad_sum, slopes = space, shifted(space, TILE), shifted(space, 2 * TILE), shifted(space, 3 * TILE)
        scale_row, shift_row, mean_row = shifted(space, 4 * TILE), shifted(space, 5 * TILE), shifted(space, 6 * TILE)
        expanded, pre = shifted(space, 7 * TILE), shifted(space, 8 * TILE)
        all_sums = shifted(space, (8 + steps) * TILE)
        all_sums_x = shifted(all_sums, size)
        x, residual, grad_spikes = pointer(p.x, element), pointer(p.residual, element), pointer(p.grad_spikes, element)
        grad_current, grad_x = pointer(p.grad_current, element), pointer(p.grad_x, element)
        initial, grad_initial = pointer(p.initial, element), pointer(p.grad_initial, element)
        grad_final, tau_partials = pointer(p.grad_final, element), pointer(p.tau_partials, types.float64)
        scales, shifts = pointer(p.scale, types.float32), pointer(p.shift, types.float32)
        means, partials = pointer(p.mean, types.float32), pointer(p.partials, types.float64)
        residual_bits = pointer(p.residual_bits, types.uint8)
        tau, threshold = np.float32(p.tau), np.float32(p.threshold)
        first, second = np.float32(p.first), np.float32(p.second)
        scale, shift, mean, sums, sums_x = scale_row, shift_row, mean_row, all_sums, all_sums_x
        ticket = take(p.ticket)
        while ticket < p.tasks:
            partial = shifted(partials, ticket * 2 * channels)
            if normalise:
                _clear_partial(partial, 2 * channels)
                _clear_sum(all_sums, size)
                _clear_sum_x(all_sums_x, size)
            tau_total, start = 0.0, ticket * p.task_size
            stop = min(start + p.task_size, p.elements)
            for base in range(start, stop, TILE):
                at = p.origin + base
                if normalise:
                    scale = _spread_scale(scales, scale_row, at, TILE, run, channels)
                    shift = _spread_shift(shifts, shift_row, at, TILE, run, channels)
                    mean = _spread_mean(means, mean_row, at, TILE, run, channels)
                    sums, sums_x = place(all_sums, at, run, channels), place(all_sums_x, at, run, channels)
                if p.initial != 0:
                    _start_u(shifted(initial, base), u, TILE)
                else:
                    _clear_u(u, TILE)
                for t in range(steps):
                    x_t, res_t = shifted(x, t * p.x_step + base), shifted(residual, t * p.stride + base)
                    pre_t = shifted(pre, t * TILE)
                    if packed:
                        unpack_tile(shifted(residual_bits, t * p.bits_stride + base // 8), expanded)
                    if packed and normalise:
                        _integrate_norm_add(x_t, expanded, scale, shift, u, pre_t, tau, threshold, soft, TILE)
                    elif packed:
                        _integrate_add(x_t, expanded, scale, shift, u, pre_t, tau, threshold, soft, TILE)
                    elif normalise and add:
                        _integrate_norm_add(x_t, res_t, scale, shift, u, pre_t, tau, threshold, soft, TILE)
                    elif normalise:
                        _integrate_norm(x_t, res_t, scale, shift, u, pre_t, tau, threshold, soft, TILE)
                    elif add:
                        _integrate_add(x_t, res_t, scale, shift, u, pre_t, tau, threshold, soft, TILE)
                    else:
                        _integrate(x_t, res_t, scale, shift, u, pre_t, tau, threshold, soft, TILE)
                # The gradient that arrives at the final membrane potential has not decayed.
                decay = _ONE
                if p.grad_final != 0:
                    _start_grad_u(shifted(grad_final, base), grad_u, TILE)
                else:
                    _clear_grad_u(grad_u, TILE)
                if static:
                    _clear_grad_sum(grad_sum, TILE)
                for step in range(steps):
                    t = steps - 1 - step
                    pre_t, offset, x_t = shifted(pre, t * TILE), t * p.stride + base, shifted(x, t * p.x_step + base)
                    spikes_t, out_t = shifted(grad_spikes, offset), shifted(grad_current, offset)
                    slope(surrogate, pre_t, slopes, threshold, first, second, TILE)
                    if static:
                        _back_static(
                            pre_t, slopes, spikes_t, grad_u, out_t, grad_sum, x_t, mean, sums, sums_x,
                            decay, threshold, soft, attached, TILE,
                        )  # fmt: skip
                        if p.grad_current != 0:
                            _write_step(grad_u, out_t, TILE)
                    elif normalise:
                        _back_norm(
                            pre_t, slopes, spikes_t, grad_u, out_t, grad_sum, x_t, mean, sums, sums_x,
                            decay, threshold, soft, attached, TILE,
                        )  # fmt: skip
                    else:
                        _back(
                            pre_t, slopes, spikes_t, grad_u, out_t, grad_sum, x_t, mean, sums, sums_x,
                            decay, threshold, soft, attached, TILE,
                        )  # fmt: skip
                    decay = tau
                    if learn_tau:
                        if t > 0:
                            tau_total += tau_sum(grad_u, shifted(pre, (t - 1) * TILE), threshold, soft, TILE)
                        elif p.initial != 0:
                            tau_total += tau_sum_initial(grad_u, shifted(initial, base), TILE)
                if static:
                    _write_sum(grad_sum, shifted(grad_x, base), TILE)
                    if normalise:
                        add_sums(grad_sum, shifted(x, base), mean, sums, sums_x, TILE)
                if p.grad_initial != 0:
                    _write_initial(grad_u, shifted(grad_initial, base), tau, TILE)
                if normalise and (run != 1 or (base - start) % p.fold_every == 0 or base + TILE >= stop):
                    _fold_sum(all_sums, partial, at, TILE, run, channels)
                    _fold_sum_x(all_sums_x, shifted(partial, channels), at, TILE, run, channels)
                    _clear_sum(all_sums, size)
                    _clear_sum_x(all_sums_x, size)
            if learn_tau:
                store(tau_partials, ticket, tau_total, PARTIAL)
            ticket = take(p.ticket)

    return kernel(backward)
