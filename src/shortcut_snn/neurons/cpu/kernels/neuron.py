"""The kernels of a neuron: normalise, add the residual, integrate and fire; and back through time.

Forward, for each work item, and for each tile in it:

1. Expand the norm's scale and shift, and the parameters per channel, to one number for each element of the tile.
2. Set the states to their initial values.
3. For each time step, run the neuron's own loop (``fire``): it reads x and the residual, updates the states, and writes
   spikes. If wanted, pack these to bits, and also the support of the surrogate: the elements whose slope is not 0.
4. Write the final states, if wanted.

Backward. The forward pass saves nothing but x and the residual, so each tile is recomputed first:

1. As above; the mean of the norm is expanded too.
2. Set the states to their initial values. For each time step run the neuron's recompute loop (``integrate``), which
   writes the values that the backward pass needs (chosen by ``choose_saved_values``) to ``saved``, in the L1 cache.
3. Set the gradients of the states to those of the final states, or 0.
4. For each time step in reverse, run the neuron's backward loop (``back``). It updates the gradients of the states, and
   writes the gradient of the current. It adds to the tile's sums: of the gradient over elements (for the norm's bias),
   of the gradient times x - mean (for its weight and statistics), and of the gradients of learned parameters.
5. If the current is constant (``static``), write the gradient summed over time, and add it to the sums once.
6. Write the gradients of the initial states, if wanted.

Sums are float32 over a few tiles; ``fold`` then adds them to the float64 sums of the work item. Each item has its own
sums, so that results depend neither on the number of threads nor on their timing.
"""

from functools import cache
from typing import Any

from numba import carray, types

from . import memory
from .bits import pack_tile, unpack_tile
from .build import ELEMENTS, TILE, kernel, loop
from .memory import GRAD_SUM, PARTIAL, ROW, SUM, SUM_X, X, atomic_fetch_add, load, pointer, shifted, store
from .pattern import expand, expand_into, make_clear, make_copy, make_wrap, sums_at
from .step import make_backward, make_forward, total

# The neuron's generated loops, which build.kernel binds to these names.
fire: Any = None
integrate: Any = None
back: Any = None
fold: Any = None
clear: Any = None
_wrap, _wrap_row = make_wrap(ROW), make_wrap(memory.SOURCE)
_clear_u, _clear_grad_u = make_clear(memory.U), make_clear(memory.GRAD_U)
_clear_grad_sum, _clear_learned, _clear_partial = make_clear(GRAD_SUM), make_clear(memory.LEARNED), make_clear(PARTIAL)
_start_u, _finish_u = make_copy(memory.INITIAL, memory.U), make_copy(memory.U, memory.FINAL)
_start_grad_u, _write_initial = make_copy(memory.INITIAL, memory.GRAD_U), make_copy(memory.GRAD_U, memory.GRAD_CURRENT)
_write_sum = make_copy(GRAD_SUM, memory.GRAD_CURRENT)


def forward_floats(states: int, rows: int) -> int:
    """Return the workspace of a thread in tiles of float32, without its values per channel."""
    return states + rows + 4


@cache
def forward_kernel(
    dtype: str, text: str, states: int, scalars: int, rows: int, normalise: bool, add: bool, packed: bool,
    slope: str | None,
) -> int:  # fmt: skip
    """Return the address of the kernel for these compile-time constants; it handles whole tiles.

    It reads x, numbers (scalars, then constants), rows ``[rows, C]`` (parameters per channel), if ``normalise`` scale
    and shift ``[C]``, if ``add`` the residual (residual_bits if ``packed``), and optionally initial ``[states, ...]``.
    It writes out, optionally bits and final ``[states, ...]``, and with the name of a ``slope`` the support as bits.
    """
    element, write_support = ELEMENTS[dtype], slope is not None

    def forward(params: Any) -> None:
        p = carray(params, 1)[0]
        space = pointer(p.workspace + atomic_fetch_add(p.next_thread) * p.thread_bytes, types.float32)
        scale_row, shift_row, unpacked = space, shifted(space, TILE), shifted(space, 2 * TILE)
        slopes, tile_rows, u = shifted(space, 3 * TILE), shifted(space, 4 * TILE), shifted(space, (4 + rows) * TILE)
        x, residual, out = pointer(p.x, element), pointer(p.residual, element), pointer(p.out, element)
        initial, final = pointer(p.initial, types.float32), pointer(p.final, types.float32)
        bits, residual_bits = pointer(p.bits, types.uint8), pointer(p.residual_bits, types.uint8)
        support = pointer(p.support, types.uint8)
        numbers, size = pointer(p.numbers, types.float32), p.channels + TILE
        wrapped = shifted(u, states * TILE)
        scales, shifts = pointer(p.scale, types.float32), pointer(p.shift, types.float32)
        if normalise:
            scales = _wrap(scales, wrapped, 1, p.run, p.channels)
            shifts = _wrap(shifts, shifted(wrapped, size), 1, p.run, p.channels)
        all_rows = pointer(p.rows, types.float32)
        all_rows = _wrap_row(all_rows, shifted(wrapped, 2 * size), rows, p.run, p.channels)
        row_size = size if p.run == 1 and p.channels % TILE != 0 else p.channels
        scale, shift = scale_row, shift_row
        item = atomic_fetch_add(p.next_item)
        while item < p.items:
            # In reverse order: the end of x, which the statistics read last, is still in the cache.
            item_index = p.items - 1 - item
            for base in range(item_index * p.item_size, min((item_index + 1) * p.item_size, p.elements), TILE):
                if normalise:
                    scale = expand(scales, scale_row, p.origin + base, TILE, p.run, p.channels)
                    shift = expand(shifts, shift_row, p.origin + base, TILE, p.run, p.channels)
                for k in range(rows):
                    source = shifted(all_rows, k * row_size)
                    expand_into(source, shifted(tile_rows, k * TILE), p.origin + base, TILE, p.run, p.channels)
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
                        unpack_tile(shifted(residual_bits, word), unpacked)
                        fire(x_t, unpacked, scale, shift, u, out_t, numbers, tile_rows, slopes, TILE)
                    else:
                        fire(x_t, res_t, scale, shift, u, out_t, numbers, tile_rows, slopes, TILE)
                    if p.bits != 0:
                        pack_tile(out_t, shifted(bits, word))
                    if write_support:
                        pack_tile(slopes, shifted(support, word))
                if p.final != 0:
                    for k in range(states):
                        _finish_u(shifted(u, k * TILE), shifted(final, k * p.stride + base), TILE)
            item = atomic_fetch_add(p.next_item)

    return kernel(forward, *make_forward(text, scalars, normalise, add, slope))


@loop
def _add_sums(grad_sum: Any, x: Any, mean: Any, sums: Any, sums_x: Any, n: int) -> None:
    """Add the gradient of a constant current, summed over time, to the sums over elements."""
    for j in range(n):
        g = load(grad_sum, j, GRAD_SUM)
        store(sums, j, load(sums, j, SUM) + g, SUM)
        store(sums_x, j, load(sums_x, j, SUM_X) + g * (load(x, j, X) - load(mean, j, ROW)), SUM_X)


def backward_floats(states: int, rows: int, learned: int, saved: int, time_steps: int) -> int:
    """Return the workspace of a thread in tiles of float32, without its values and sums per channel."""
    return 5 + 2 * states + rows + learned + saved * time_steps


@cache
def backward_kernel(
    dtype: str, text: str, states: int, scalars: int, rows: int, learned: tuple[str, ...], saved: int,
    through_time: bool, normalise: bool, add: bool, packed: bool, static: bool, write: bool,
) -> int:  # fmt: skip
    """Return the address of the kernel for these compile-time constants; it handles whole tiles.

    It reads what the forward kernel reads, mean ``[C]`` if ``normalise``, grad_spikes, and optionally grad_final
    ``[states, ...]``. It writes:

    - grad_current ``[T, ...]`` if ``write``; grad_x ``[1, ...]``, its sum over time, if ``static``;
    - partials ``[items, 2 + learned per channel, C]``, float64: sums of the gradient, of the gradient times x - mean,
      and of the gradients of the learned parameters per channel;
    - learned ``[items, learned scalars]``, float64: sums of the gradients of the learned scalars;
    - optionally grad_initial ``[states, ...]``.
    """
    element = ELEMENTS[dtype]
    learned_p = sum(name[0] == "p" for name in learned)
    learned_q = len(learned) - learned_p
    by_channel = normalise or learned_q > 0

    def backward(params: Any) -> None:
        p = carray(params, 1)[0]
        run, channels, steps = p.run, p.channels, p.time_steps
        size = channels + TILE if run == 1 else TILE
        row_size = size if run == 1 and channels % TILE != 0 else channels
        # The workspace of this thread, cut into its buffers.
        space = pointer(p.workspace + atomic_fetch_add(p.next_thread) * p.thread_bytes, types.float32)
        grad_sum, scale_row, shift_row = space, shifted(space, TILE), shifted(space, 2 * TILE)
        mean_row, unpacked, u = shifted(space, 3 * TILE), shifted(space, 4 * TILE), shifted(space, 5 * TILE)
        grad_u, tile_rows = shifted(u, states * TILE), shifted(u, 2 * states * TILE)
        learned_sums = shifted(tile_rows, rows * TILE)
        saved_values = shifted(learned_sums, learned_p * TILE)
        all_sums = shifted(saved_values, steps * saved * TILE)
        x, residual, grad_spikes = pointer(p.x, element), pointer(p.residual, element), pointer(p.grad_spikes, element)
        grad_current, grad_x = pointer(p.grad_current, element), pointer(p.grad_x, element)
        initial, grad_initial = pointer(p.initial, types.float32), pointer(p.grad_initial, types.float32)
        grad_final, all_learned = pointer(p.grad_final, types.float32), pointer(p.learned, types.float64)
        scales, shifts = pointer(p.scale, types.float32), pointer(p.shift, types.float32)
        means, partials = pointer(p.mean, types.float32), pointer(p.partials, types.float64)
        numbers, all_rows = pointer(p.numbers, types.float32), pointer(p.rows, types.float32)
        wrapped = shifted(all_sums, (2 + learned_q) * size)
        if normalise:
            scales = _wrap(scales, wrapped, 1, run, channels)
            shifts = _wrap(shifts, shifted(wrapped, size), 1, run, channels)
            means = _wrap(means, shifted(wrapped, 2 * size), 1, run, channels)
        all_rows = _wrap_row(all_rows, shifted(wrapped, 3 * size), rows, run, channels)
        residual_bits = pointer(p.residual_bits, types.uint8)
        scale, shift, mean, sums, sums_x = scale_row, shift_row, mean_row, all_sums, shifted(all_sums, size)
        item = atomic_fetch_add(p.next_item)
        while item < p.items:
            partial = shifted(partials, item * (2 + learned_q) * channels)
            totals = shifted(all_learned, item * learned_p)
            if by_channel:
                _clear_partial(partial, (2 + learned_q) * channels)
                clear(all_sums, size)
            _clear_partial(totals, learned_p)
            _clear_learned(learned_sums, learned_p * TILE)
            start = item * p.item_size
            stop = min(start + p.item_size, p.elements)
            for base in range(start, stop, TILE):
                at = p.origin + base
                # Step 1.
                if normalise:
                    scale = expand(scales, scale_row, at, TILE, run, channels)
                    shift = expand(shifts, shift_row, at, TILE, run, channels)
                    mean = expand(means, mean_row, at, TILE, run, channels)
                if by_channel:
                    sums = sums_at(all_sums, at, run, channels)
                    sums_x = shifted(sums, size)
                for k in range(rows):
                    expand_into(shifted(all_rows, k * row_size), shifted(tile_rows, k * TILE), at, TILE, run, channels)
                # Step 2.
                if p.initial != 0:
                    for k in range(states):
                        _start_u(shifted(initial, k * p.stride + base), shifted(u, k * TILE), TILE)
                else:
                    _clear_u(u, states * TILE)
                for t in range(steps):
                    x_t, res_t = shifted(x, t * p.x_step + base), shifted(residual, t * p.stride + base)
                    saved_t = shifted(saved_values, t * saved * TILE)
                    if packed:
                        unpack_tile(shifted(residual_bits, t * p.bits_stride + base // 8), unpacked)
                        integrate(x_t, unpacked, scale, shift, u, saved_t, numbers, tile_rows, TILE)
                    else:
                        integrate(x_t, res_t, scale, shift, u, saved_t, numbers, tile_rows, TILE)
                # Step 3.
                if p.grad_final != 0:
                    for k in range(states):
                        _start_grad_u(shifted(grad_final, k * p.stride + base), shifted(grad_u, k * TILE), TILE)
                else:
                    _clear_grad_u(grad_u, states * TILE)
                if static:
                    _clear_grad_sum(grad_sum, TILE)
                # Step 4.
                for step in range(steps):
                    t = steps - 1 - step
                    offset = t * p.stride + base
                    back(
                        shifted(saved_values, t * saved * TILE), shifted(grad_spikes, offset), grad_u,
                        shifted(grad_current, offset), grad_sum, shifted(x, t * p.x_step + base), mean, sums, sums_x,
                        numbers, tile_rows, learned_sums, size, TILE,
                    )  # fmt: skip
                for k in range(learned_p):
                    store(totals, k, load(totals, k, PARTIAL) + total(shifted(learned_sums, k * TILE), TILE), PARTIAL)
                _clear_learned(learned_sums, learned_p * TILE)
                # Steps 5 and 6.
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
            item = atomic_fetch_add(p.next_item)

    return kernel(backward, *make_backward(text, scalars, learned, through_time, normalise, add, static, write))
