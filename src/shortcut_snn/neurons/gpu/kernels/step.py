"""Generate the forward and backward kernels of a neuron: a template with the neuron's program written into it.

A line ``#: name`` in a template is replaced by lines generated from the program. Triton reads the source of a function
with ``inspect``, so the generated source is registered with ``linecache``.
"""

import hashlib
import linecache
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, partial
from typing import Any

import triton
import triton.language as tl

from ...compiler.backward import derive_backward
from ...compiler.program import Instruction, emit, forward_code, inputs_of, is_external, literal, parse, simplify
from . import fixed

_NAMES: dict[str, Any] = {
    **fixed.NAMES, "tl": tl, "tile": fixed.tile, "load": fixed.load, "store": fixed.store,
    "load_bits": fixed.load_bits, "__name__": __name__,
}  # fmt: skip
_emit = partial(emit, functions=fixed.FUNCTIONS)

# A program handles 8 * BYTES elements, in the order of memory, through all time steps, so their states stay in
# registers. It reads x, and if not None the residual (numbers or bits), scale and shift ``[C]``, initial ``[states,
# ...]``, scalars ``[P]`` and by_channel ``[Q, C]``. It writes spikes, and if not None bits and final ``[states, ...]``.
_FORWARD = """
def forward_kernel(
    #: arguments
    BYTES: tl.constexpr,
):
    byte = tl.program_id(0).to(tl.int64) * BYTES + tl.arange(0, BYTES)
    lane = tl.arange(0, 8)[None, :]
    at = byte[:, None] * 8 + lane
    inside = at < elements
    whole = tl.full([1, 1], elements, tl.int64)
    channel = at // run % channels
    if scale is not None:
        factor = tl.load(scale + channel, mask=inside, other=0.0)
        summand = tl.load(shift + channel, mask=inside, other=0.0)
    #: parameters
    #: start
    for _ in range(time_steps):
        #: current
        #: step
        store(spikes + at, y, inside)
        spikes += elements
        if bits is not None:
            # After the last element the bits must be 0.
            fired = (y != 0.0) & inside
            packed = tl.sum(fired.to(tl.int32) << lane, axis=1)
            tl.store(bits + byte, packed.to(tl.uint8), mask=byte < bits_step)
            bits += bits_step
    if final is not None:
        #: finish
"""

# The forward pass saves nothing but x and the residual. A program handles some tiles of positions and channels, one
# after the other. For each tile it
#
# 1. recomputes the forward pass, and stores the values that the backward pass needs to ``scratch``. That buffer is only
#    as large as the tiles in progress, so it stays in the cache;
# 2. goes back through time, writes the gradient of the current, and adds to its sums per channel.
#
# It reads what the forward kernel reads, grad_spikes, and if not None grad_final. It writes, if not None, grad_current
# ``[T, ...]``, grad_x ``[1, ...]`` (the sum over time of a constant current's gradient), grad_initial, and as float32
# sums ``[parts, 2 + learned per channel, C]`` and learned ``[parts * blocks, P]``. The sums are of the gradient, of the
# gradient times x - mean, and of the gradients of the learned parameters per channel. The grid is
# ``[parts, blocks of channels]``.
_BACKWARD = """
def backward_kernel(
    #: arguments
    STATIC: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    part = tl.program_id(0)
    parts = tl.num_programs(0)
    program = tl.program_id(1) * parts + part
    channel = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    size = BLOCK_P * BLOCK_C
    lane = tl.arange(0, BLOCK_P)[:, None] * BLOCK_C + tl.arange(0, BLOCK_C)[None, :]
    space = scratch + program.to(tl.int64) * time_steps * saved_count * size + lane
    whole = tl.full([1, 1], elements, tl.int64)
    if scale is not None:
        valid = channel < channels
        factor = tl.load(scale + channel, mask=valid, other=0.0)[None, :]
        summand = tl.load(shift + channel, mask=valid, other=0.0)[None, :]
        centre = tl.load(mean + channel, mask=valid, other=0.0)[None, :]
    #: parameters
    total = tl.zeros([BLOCK_P, BLOCK_C], tl.float32)
    total_x = tl.zeros([BLOCK_P, BLOCK_C], tl.float32)
    #: totals
    for tile_number in range(part, tiles, parts):
        at, inside = tile(tile_number, channel, positions, channels, run, BLOCK_P)
        #: start
        saved = space
        for _ in range(time_steps):
            #: current
            #: step
        # A value may be read by another thread than the one that wrote it.
        tl.debug_barrier()
        summed = tl.zeros([BLOCK_P, BLOCK_C], tl.float32)
        #: end
        last = (tl.full([1, 1], time_steps, tl.int64) - 1) * elements
        spikes_t = grad_spikes + last + at
        if grad_current is not None:
            current_t = grad_current + last + at
        for _ in range(time_steps):
            gy = load(spikes_t, inside)
            #: back
            spikes_t -= elements
            if grad_current is not None:
                store(current_t, gi, inside)
                current_t -= elements
            if STATIC:
                summed += gi
            elif scale is not None:
                x_t -= x_step
                total += gi
                total_x += gi * (load(x_t + at, inside) - centre)
        tl.debug_barrier()
        if STATIC:
            store(grad_x + at, summed, inside)
            if scale is not None:
                total += summed
                total_x += summed * (load(x + at, inside) - centre)
        if grad_initial is not None:
            #: finish
    if sums is not None:
        out = sums + part * (2 + CHANNELWISE) * channels + channel
        tl.store(out, tl.sum(total, axis=0), mask=channel < channels)
        tl.store(out + channels, tl.sum(total_x, axis=0), mask=channel < channels)
        #: sums
    if learned is not None:
        #: learned
"""

_POINTERS = """
x_t = x
if residual is not None:
    residual_t = residual
if residual_bits is not None:
    bits_t = residual_bits
"""
_CURRENT = """
i = load(x_t + at, inside)
x_t += x_step
if scale is not None:
    i = i * factor + summand
if residual is not None:
    i += load(residual_t + at, inside)
    residual_t += elements
if residual_bits is not None:
    i += load_bits(bits_t, at, inside)
    bits_t += bits_step
"""


def _filled(template: str, parts: Mapping[str, Iterable[str]]) -> str:
    """Replace the marked lines of a template, with their indentation."""
    parts = {**parts, "current": _CURRENT.strip().splitlines()}
    lines = []
    for line in template.strip().splitlines():
        indent, mark, name = line.partition("#: ")
        lines += [indent + part for part in parts[name]] if mark else [line]
    return "\n".join(lines) + "\n"


def _compiled(name: str, source: str) -> Any:
    """Return the kernel of a source text."""
    filename = f"<shortcut_snn {name} {hashlib.sha256(source.encode()).hexdigest()[:16]}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
    names = dict(_NAMES)
    exec(compile(source, filename, "exec"), names)
    return triton.jit(names[name])


def _load_parameters(code: Sequence[Instruction], results: Sequence[str], mask: str, index: str = "") -> list[str]:
    """Load scalars, and parameters per channel."""
    return [f"{name} = tl.load(scalars + {name[1:]})" for name in inputs_of(code, "p", results)] + [
        f"{name} = tl.load(by_channel + {name[1:]} * channels + channel, mask={mask}, other=0.0){index}"
        for name in inputs_of(code, "q", results)
    ]


def _load_states(name: str, pointer: str, shape: str, states: range) -> list[str]:
    """Load states or their gradients, or zeros without a buffer."""
    return [
        f"{name}{k} = load({pointer} + {k} * whole + at, inside) if {pointer} is not None "
        f"else tl.zeros([{shape}], tl.float32)"
        for k in states
    ]


def _update_states(name: str, values: Iterable[str], like: str) -> list[str]:
    """Assign new states, all at once; a variable of a Triton loop must keep the shape of a tile."""
    blocks = [f"n{k} = {_tile_shaped(value, like)}" for k, value in enumerate(values)]
    return blocks + [f"{name}{k} = n{k}" for k in range(len(blocks))]


def _tile_shaped(name: str, like: str) -> str:
    """Return a value in the shape of a tile: parameters and literals are broadcast."""
    return f"tl.zeros_like({like}) + {literal(name)}" if is_external(name) else name


@cache
def forward_kernel(text: str, arguments: tuple[str, ...]) -> Any:
    """Return the kernel of a program that takes these arguments in this order."""
    program = parse(text)
    spikes, *states_after = program.outputs
    states = range(program.states)
    code = simplify(forward_code(program), program.outputs)
    parts = {
        "arguments": [f"{', '.join(arguments)},"],
        "parameters": _load_parameters(code, program.outputs, "inside"),
        "start": [*_POINTERS.strip().splitlines(), *_load_states("s", "initial", "BYTES, 8", states)],
        "step": [
            *emit(code, functions=fixed.FUNCTIONS),
            f"y = {_tile_shaped(spikes, 'i')}",
            *_update_states("s", states_after, "i"),
        ],
        "finish": [f"store(final + {k} * whole + at, s{k}, inside)" for k in states],
    }
    return _compiled("forward_kernel", _filled(_FORWARD, parts))


@cache
def backward_kernel(text: str, arguments: tuple[str, ...], learned: tuple[str, ...], through_time: bool) -> Any:
    """Return the backward kernel of a program that takes these arguments in this order."""
    program = parse(text)
    derived = derive_backward(text, learned, through_time)
    gradients, saved = derived.gradients, derived.saved
    states_after = program.outputs[1:]
    states = range(program.states)
    forward_results = [*states_after, *saved]
    forward = simplify(forward_code(program, saved), forward_results)
    backward_results = list(gradients.values())
    backward = simplify(derived.code, backward_results)
    both, results = [*forward, *backward], [*forward_results, *backward_results]
    scalars = [name for name in learned if name[0] == "p"]
    channels = [name for name in learned if name[0] == "q"]
    parts = {
        "arguments": [f"{', '.join(arguments)},"],
        "parameters": _load_parameters(both, results, "channel < channels", "[None, :]"),
        "totals": [f"total_{name} = tl.zeros([BLOCK_P, BLOCK_C], tl.float32)" for name in learned],
        "start": [*_POINTERS.strip().splitlines(), *_load_states("s", "initial", "BLOCK_P, BLOCK_C", states)],
        "step": [
            *_emit(forward),
            *(f"tl.store(saved + {k} * size, {_tile_shaped(name, 'i')})" for k, name in enumerate(saved)),
            *_update_states("s", states_after, "i"),
            f"saved += {len(saved)} * size",
        ],
        "end": _load_states("go", "grad_final", "BLOCK_P, BLOCK_C", states),
        "back": [
            f"saved -= {len(saved)} * size",
            *(f"{name} = tl.load(saved + {k} * size)" for k, name in enumerate(saved)),
            *_emit(backward),
            f"gi = {_tile_shaped(gradients['i'], 'gy')}",
            *(f"total_{name} += {literal(gradients[name])}" for name in learned),
            *_update_states("go", [gradients[f"s{k}"] for k in states], "gy"),
        ],
        "finish": [f"store(grad_initial + {k} * whole + at, go{k}, inside)" for k in states],
        "sums": [
            f"tl.store(out + {k + 2} * channels, tl.sum(total_{name}, axis=0), mask=channel < channels)"
            for k, name in enumerate(channels)
        ],
        "learned": [
            f"tl.store(learned + program * {len(scalars)} + {name[1:]}, tl.sum(total_{name}))" for name in scalars
        ],
    }
    # A block of Python must not be empty.
    parts = {name: lines or ["pass"] for name, lines in parts.items()}
    template = _BACKWARD.replace("CHANNELWISE", str(len(channels)))
    return _compiled("backward_kernel", _filled(template, parts))
