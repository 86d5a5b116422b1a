"""Generate the forward and backward kernels of a neuron: a template with the neuron's program written into it.

A line ``#: name`` in a template is replaced by lines generated from the program. Triton reads the source of a function
with ``inspect``, so the generated source is registered with ``linecache``.
"""

import hashlib
import linecache
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import triton
import triton.language as tl

from ...compiler.backward import derive_backward
from ...compiler.program import Instruction, emit, forward_code, inputs_of, is_external, literal, parse
from ...compiler.simplify import simplify
from . import backward as backward_template
from . import elements, primitives
from . import forward as forward_template
from .elements import tile

_NAMES: dict[str, Any] = {
    **primitives.NAMES, "tl": tl, "tile": tile, "load": elements.load, "store": elements.store,
    "load_bits": elements.load_bits, "__name__": __name__,
}  # fmt: skip


def _filled(template: str, parts: Mapping[str, Iterable[str]]) -> str:
    """Replace the marked lines of a template, with their indentation."""
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


def _load_scalars(code: Iterable[Instruction], results: Iterable[str]) -> list[str]:
    return [f"{name} = tl.load(scalars + {name[1:]})" for name in inputs_of(code, "p", results)]


def _load_channels(code: Iterable[Instruction], results: Iterable[str], mask: str, index: str) -> list[str]:
    return [
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
def forward_kernel(text: str, constants: int) -> Any:
    """Return the kernel of a program; its template documents what it reads and writes."""
    program = parse(text)
    spikes, *states_after = program.outputs
    states = range(program.states)
    code = simplify(forward_code(program), program.outputs)
    parts = {
        "constants": [f"c{k}," for k in range(constants)],
        "parameters": [
            *_load_scalars(code, program.outputs),
            *_load_channels(code, program.outputs, mask="inside", index=""),
        ],
        "start": _load_states("s", "initial", "BYTES, 8", states),
        "step": [*emit(code), f"y = {_tile_shaped(spikes, 'i')}", *_update_states("s", states_after, "i")],
        "finish": [f"store(final + {k} * whole + at, s{k}, inside)" for k in states],
    }
    return _compiled("forward_kernel", _filled(forward_template.TEMPLATE, parts))


@cache
def backward_kernel(text: str, constants: int, learned: tuple[str, ...], through_time: bool) -> Any:
    """Return the backward kernel of a program; its template documents what it reads and writes."""
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
        "constants": [f"c{k}," for k in range(constants)],
        "parameters": [
            *_load_scalars(both, results),
            *_load_channels(both, results, mask="channel < channels", index="[None, :]"),
        ],
        "totals": [f"total_{name} = tl.zeros([BLOCK_P, BLOCK_C], tl.float32)" for name in learned],
        "start": _load_states("s", "initial", "BLOCK_P, BLOCK_C", states),
        "step": [
            *emit(forward),
            *(f"tl.store(saved + {k} * size, {_tile_shaped(name, 'i')})" for k, name in enumerate(saved)),
            *_update_states("s", states_after, "i"),
            f"saved += {len(saved)} * size",
        ],
        "end": _load_states("go", "grad_final", "BLOCK_P, BLOCK_C", states),
        "back": [
            f"saved -= {len(saved)} * size",
            *(f"{name} = tl.load(saved + {k} * size)" for k, name in enumerate(saved)),
            *emit(backward),
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
    parts = {name: lines or ["pass"] for name, lines in parts.items()} | {"constants": parts["constants"]}
    template = backward_template.TEMPLATE.replace("CHANNELWISE", str(len(channels)))
    return _compiled("backward_kernel", _filled(template, parts))
