"""One time step of a tile: the current from what is in memory, the membrane potential, and the way back."""

from typing import Any

import numpy as np

from .build import loop, reduction
from .memory import (
    GRAD,
    GRAD_CURRENT,
    GRAD_SUM,
    GRAD_U,
    INITIAL,
    MEAN,
    OUT,
    PRE,
    RESIDUAL,
    SCALE,
    SHIFT,
    SLOPE,
    SUM,
    SUM_X,
    U,
    X,
    load,
    store,
)

_ZERO, _ONE = np.float32(0.0), np.float32(1.0)


def _make_current(normalise: bool, add: bool) -> Any:
    @loop
    def current(x: Any, residual: Any, scale: Any, shift: Any, j: int) -> Any:
        value = load(x, j, X)
        if normalise:
            value = value * load(scale, j, SCALE) + load(shift, j, SHIFT)
        if add:
            value = value + load(residual, j, RESIDUAL)
        return value

    return current


def make_fire(normalise: bool, add: bool) -> Any:
    """Make a forward step: reads the current, updates ``u`` and writes spikes."""
    current = _make_current(normalise, add)

    @loop
    def fire(
        x: Any,
        residual: Any,
        scale: Any,
        shift: Any,
        u: Any,
        out: Any,
        tau: float,
        threshold: float,
        soft: bool,
        n: int,
    ) -> None:
        for j in range(n):
            u_pre = tau * load(u, j, U) + current(x, residual, scale, shift, j)
            fired = u_pre > threshold
            after = u_pre - threshold if soft else _ZERO
            store(u, j, after if fired else u_pre, U)
            store(out, j, _ONE if fired else _ZERO, OUT)

    return fire


def make_integrate(normalise: bool, add: bool) -> Any:
    """Make the same step for the backward pass: keeps u_pre instead of the spikes."""
    current = _make_current(normalise, add)

    @loop
    def integrate(
        x: Any,
        residual: Any,
        scale: Any,
        shift: Any,
        u: Any,
        pre: Any,
        tau: float,
        threshold: float,
        soft: bool,
        n: int,
    ) -> None:
        for j in range(n):
            u_pre = tau * load(u, j, U) + current(x, residual, scale, shift, j)
            fired = u_pre > threshold
            after = u_pre - threshold if soft else _ZERO
            store(u, j, after if fired else u_pre, U)
            store(pre, j, u_pre, PRE)

    return integrate


def make_back(normalise: bool, static: bool) -> Any:
    """Make a backward step.

    ``grad_u`` holds the gradient of the next step's u_pre and is left holding this step's. The gradient of the
    current goes to ``grad_current``, or is added to ``grad_sum`` when the current is the same at all steps; its sums
    over elements, alone and times x - mean, go to ``sums`` and ``sums_x``.
    """

    @loop
    def back(
        pre: Any,
        slopes: Any,
        grad_spikes: Any,
        grad_u: Any,
        grad_current: Any,
        grad_sum: Any,
        x: Any,
        mean: Any,
        sums: Any,
        sums_x: Any,
        decay: float,
        threshold: float,
        soft: bool,
        attached: bool,
        n: int,
    ) -> None:
        for j in range(n):
            u_pre, slope, after = load(pre, j, PRE), load(slopes, j, SLOPE), load(grad_u, j, GRAD_U) * decay
            carried = _ZERO if (u_pre > threshold and not soft) else after
            lever = threshold if soft else u_pre
            carried = carried - after * lever * slope if attached else carried
            g = load(grad_spikes, j, GRAD) * slope + carried
            store(grad_u, j, g, GRAD_U)
            if static:
                store(grad_sum, j, load(grad_sum, j, GRAD_SUM) + g, GRAD_SUM)
            else:
                store(grad_current, j, g, GRAD_CURRENT)
                if normalise:
                    store(sums, j, load(sums, j, SUM) + g, SUM)
                    store(sums_x, j, load(sums_x, j, SUM_X) + g * (load(x, j, X) - load(mean, j, MEAN)), SUM_X)

    return back


@loop
def add_sums(grad_sum: Any, x: Any, mean: Any, sums: Any, sums_x: Any, n: int) -> None:
    """Add a static current's gradient, summed over time, to the sums over elements."""
    for j in range(n):
        g = load(grad_sum, j, GRAD_SUM)
        store(sums, j, load(sums, j, SUM) + g, SUM)
        store(sums_x, j, load(sums_x, j, SUM_X) + g * (load(x, j, X) - load(mean, j, MEAN)), SUM_X)


@reduction
def tau_sum(grad_u: Any, before: Any, threshold: float, soft: bool, n: int) -> Any:
    """Return the sum of gradient * u over a tile, u after the reset of the step before, whose u_pre is given."""
    total = _ZERO
    for j in range(n):
        u_pre = load(before, j, PRE)
        after = u_pre - threshold if soft else _ZERO
        total += load(grad_u, j, GRAD_U) * (after if u_pre > threshold else u_pre)
    return total


@reduction
def tau_sum_initial(grad_u: Any, initial: Any, n: int) -> Any:
    """Return the same sum for the first step, before which the membrane potential was ``initial``."""
    total = _ZERO
    for j in range(n):
        total += load(grad_u, j, GRAD_U) * load(initial, j, INITIAL)
    return total
