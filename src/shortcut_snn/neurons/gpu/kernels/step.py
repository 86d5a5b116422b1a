"""The two kernels of a neuron: a skeleton's text with the neuron's own step written into it.

A line ``#: name`` in a skeleton stands for lines that are made from the program. Triton reads a function's source, so
it is kept where ``inspect`` finds it.
"""

import hashlib
import linecache
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import triton
import triton.language as tl

from ...compiler.program import Instruction, backward, emit, forward_code, inputs, literal, read, simplified
from . import backward as backward_skeleton
from . import elements, primitives
from . import forward as forward_skeleton
from .tile import tile

_NAMES: dict[str, Any] = {
    **primitives.NAMES, "tl": tl, "tile": tile, "load": elements.load, "store": elements.store,
    "load_bits": elements.load_bits, "__name__": __name__,
}  # fmt: skip


def _filled(skeleton: str, parts: Mapping[str, Iterable[str]], arguments: Iterable[str]) -> str:
    lines = []
    for line in skeleton.strip().splitlines():
        indent, mark, name = line.partition("#: ")
        if not mark:
            lines.append(line)
        else:
            lines += [indent + part for part in (arguments if name == "numbers" else parts[name])]
    return "\n".join(lines) + "\n"


def _compiled(name: str, text: str) -> Any:
    """Return the kernel of a text."""
    place = f"<shortcut_snn {name} {hashlib.sha256(text.encode()).hexdigest()[:16]}>"
    linecache.cache[place] = (len(text), None, text.splitlines(True), place)
    names = dict(_NAMES)
    exec(compile(text, place, "exec"), names)
    return triton.jit(names[name])


def _scalars(code: Iterable[Instruction], results: Iterable[str]) -> list[str]:
    return [f"{name} = tl.load(scalars + {name[1:]})" for name in inputs(list(code), "p", *results)]


def _channels(code: Iterable[Instruction], results: Iterable[str], mask: str, rest: str) -> list[str]:
    return [
        f"{name} = tl.load(by_channel + {name[1:]} * channels + channel, mask={mask}, other=0.0){rest}"
        for name in inputs(list(code), "q", *results)
    ]


def _block(name: str, like: str) -> str:
    """Return a value in the shape of a tile, which all a loop carries must have."""
    return name if name[0] in "vgsi" else f"tl.zeros_like({like}) + {literal(name)}"


@cache
def forward_kernel(text: str, numbers: int) -> Any:
    """Return the kernel of a program; see the skeleton for what it reads and writes."""
    program = read(text)
    states = range(program.states)
    code = simplified(forward_code(program), program.outputs)
    parts = {
        "parameters": _scalars(code, program.outputs) + _channels(code, program.outputs, "inside", ""),
        "start": [
            f"s{k} = load(initial + {k} * whole + at, inside) if initial is not None "
            "else tl.zeros([BYTES, 8], tl.float32)"
            for k in states
        ],
        "step": [
            *emit(code, program.outputs),
            f"y = {_block(program.outputs[0], 'i')}",
            *(f"n{k} = {_block(name, 'i')}" for k, name in enumerate(program.outputs[1:])),
            *(f"s{k} = n{k}" for k in states),
        ],
        "finish": [f"store(final + {k} * whole + at, s{k}, inside)" for k in states],
    }
    return _compiled("forward_kernel", _filled(forward_skeleton.SKELETON, parts, [f"c{k}," for k in range(numbers)]))


@cache
def backward_kernel(text: str, numbers: int, learn: tuple[str, ...], carry: bool) -> Any:
    """Return the kernel of a program's way back; see the skeleton for what it reads and writes."""
    program = read(text)
    way = backward(text, learn, carry)
    states = range(program.states)
    there_results = [*program.outputs[1:], *way.kept]
    there = simplified(forward_code(program, way.kept), there_results)
    grads = list(way.grads.values())
    back = simplified([*way.again, *way.code], grads)
    both, results = [*there, *back], [*there_results, *grads]
    of_channels = [name for name in learn if name[0] == "q"]
    parts = {
        "parameters": _scalars(both, results) + _channels(both, results, "channel < channels", "[None, :]"),
        "totals": [f"total_{name} = tl.zeros([BLOCK_P, BLOCK_C], tl.float32)" for name in learn],
        "start": [
            f"s{k} = load(initial + {k} * whole + at, inside) if initial is not None "
            "else tl.zeros([BLOCK_P, BLOCK_C], tl.float32)"
            for k in states
        ],
        "step": [
            *emit(there, there_results),
            *(f"tl.store(pre + {k} * size, {_block(name, 'i')})" for k, name in enumerate(way.kept)),
            *(f"n{k} = {_block(name, 'i')}" for k, name in enumerate(program.outputs[1:])),
            *(f"s{k} = n{k}" for k in states),
            f"pre += {len(way.kept)} * size",
        ],
        "end": [
            f"go{k} = load(grad_final + {k} * whole + at, inside) if grad_final is not None "
            "else tl.zeros([BLOCK_P, BLOCK_C], tl.float32)"
            for k in states
        ],
        "back": [
            f"pre -= {len(way.kept)} * size",
            *(f"{name} = tl.load(pre + {k} * size)" for k, name in enumerate(way.kept)),
            *emit(back, grads),
            f"gi = {_block(way.grads['i'], 'gy')}",
            *(f"total_{name} += {literal(way.grads[name])}" for name in learn),
            *(f"n{k} = {_block(way.grads.get(f's{k}', '0'), 'gy')}" for k in states),
            *(f"go{k} = n{k}" for k in states),
        ],
        "finish": [f"store(grad_initial + {k} * whole + at, go{k}, inside)" for k in states],
        "sums": [
            f"tl.store(out + {k + 2} * channels, tl.sum(total_{name}, axis=0), mask=channel < channels)"
            for k, name in enumerate(of_channels)
        ],
        "learned": [
            f"tl.store(learned + program * {len(learn) - len(of_channels)} + {name[1:]}, tl.sum(total_{name}))"
            for name in learn
            if name[0] == "p"
        ],
    }
    parts = {name: list(lines) or ["pass"] for name, lines in parts.items()}
    skeleton = backward_skeleton.SKELETON.replace("CHANNELWISE", str(len(of_channels)))
    return _compiled("backward_kernel", _filled(skeleton, parts, [f"c{k}," for k in range(numbers)]))
