"""The loops over a tile that a neuron's program is emitted into: a step forwards, the same once more, a step back.

States lie behind each other in ``u``, TILE numbers each, and so do their gradients and what is kept for the way back.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import numpy as np

from ...compiler.program import Instruction, backward, emit, forward_code, inputs, literal, read, simplified
from . import memory, pattern, primitives
from .build import TILE, loop, reduction
from .memory import LEARNED, MOST_Q, SUM, SUM_Q, SUM_X

_ZERO = np.float32(0.0)
_NAMES: dict[str, Any] = {
    **primitives.NAMES, **{name: getattr(memory, name) for name in vars(memory) if name.isupper()},
    "load": memory.load, "store": memory.store, "shifted": memory.shifted, "TILE": TILE, "loop": loop,
}  # fmt: skip


def _text(name: str, arguments: str, ahead: Sequence[str], body: Sequence[str]) -> str:
    lines = [f"def {name}({arguments}, n):", *ahead, "for j in range(n):"]
    return "\n    ".join(lines) + "".join(f"\n        {line}" for line in body or ["pass"]) + "\n"


def _scalars(code: Iterable[Instruction], more: Sequence[str], count: int) -> list[str]:
    """Load what is the same for all elements, ahead of the loop: the parameters stand before the numbers."""
    lines = list(code)
    found = [(name, int(name[1:])) for name in inputs(lines, "p", *more)]
    found += [(name, count + int(name[1:])) for name in inputs(lines, "c", *more)]
    return [f"{name} = load(numbers, {place}, NUMBER)" for name, place in found]


def _elements(names: Iterable[str], buffer: str, scope: str) -> list[str]:
    return [f"{name} = load({buffer}, j + {int(name[1:]) * TILE}, {scope})" for name in names]


def _current(normalise: bool, add: bool) -> list[str]:
    lines = ["i = load(x, j, X)"]
    if normalise:
        lines.append("i = i * load(scale, j, ROW) + load(shift, j, ROW)")
    return [*lines, "i = i + load(residual, j, RESIDUAL)"] if add else lines


def _to(name: str) -> str:
    return literal(name, "f32({})")


def fire_text(text: str, scalars: int, normalise: bool, add: bool, kept: Sequence[str] | None = None) -> str:
    """Return a step's loop, which writes spikes, or instead what the way back needs."""
    program = read(text)
    results = [*program.outputs[1:], *(program.outputs[:1] if kept is None else kept)]
    code = simplified(forward_code(program, kept or ()), results)
    states = [f"s{k}" for k in range(program.states)]
    body = [*_current(normalise, add), *_elements(states, "u", "U"), *_elements(inputs(code, "q"), "rows", "ROW")]
    body += emit(code, results, "f32({})")
    body += [f"store(u, j + {k * TILE}, {_to(name)}, U)" for k, name in enumerate(program.outputs[1:])]
    if kept is None:
        body.append(f"store(out, j, {_to(program.outputs[0])}, OUT)")
    else:
        body += [f"store(out, j + {k * TILE}, {name}, PRE)" for k, name in enumerate(kept)]
    ahead = _scalars(code, results, scalars)
    return _text(
        "integrate" if kept is not None else "fire", "x, residual, scale, shift, u, out, numbers, rows", ahead, body
    )


def back_text(
    text: str, scalars: int, learn: tuple[str, ...], carry: bool, normalise: bool, static: bool, write: bool
) -> str:
    """Return the loop of a step back.

    ``grad_u`` holds the gradients of the states after the step and is left holding those of the states before. The
    gradient of the current goes to ``grad_current``, or is added to ``grad_sum`` when the current is the same at all
    steps; its sums over elements, alone and times x - mean, go to ``sums`` and ``sums_x``.
    """
    program = read(text)
    way = backward(text, learn, carry)
    grads = list(way.grads.values())
    code = simplified([*way.again, *way.code], grads)
    read_here = {arg for _, _, args in code for arg in args} | set(grads)
    body = [f"{name} = load(pre, j + {k * TILE}, PRE)" for k, name in enumerate(way.kept)]
    body += _elements(inputs(code, "q", *grads), "rows", "ROW")
    body += ["gy = load(grad_spikes, j, GRAD)"] if "gy" in read_here else []
    body += [f"go{k} = load(grad_u, j + {k * TILE}, GRAD_U)" for k in range(program.states) if f"go{k}" in read_here]
    body += emit(code, grads, "f32({})")
    if carry:
        body += [f"store(grad_u, j + {k * TILE}, {_to(way.grads[f's{k}'])}, GRAD_U)" for k in range(program.states)]
    body.append(f"gi = {_to(way.grads['i'])}")
    if static:
        body.append("store(grad_sum, j, load(grad_sum, j, GRAD_SUM) + gi, GRAD_SUM)")
    if write:
        body.append("store(grad_current, j, gi, GRAD_CURRENT)")
    if normalise and not static:
        body += [
            "store(sums, j, load(sums, j, SUM) + gi, SUM)",
            "store(sums_x, j, load(sums_x, j, SUM_X) + gi * (load(x, j, X) - load(mean, j, ROW)), SUM_X)",
        ]
    learned = [name for name in learn if name[0] == "p"]
    for k, name in enumerate(learned):
        at = f"j + {k * TILE}, "
        body.append(f"store(learned, {at}load(learned, {at}LEARNED) + {_to(way.grads[name])}, LEARNED)")
    for k, name in enumerate([name for name in learn if name[0] == "q"]):
        scope = SUM_Q + k
        body.append(f"store(sums_q{k}, j, load(sums_q{k}, j, {scope}) + {_to(way.grads[name])}, {scope})")
    ahead = _scalars(code, grads, scalars)
    ahead += [f"sums_q{k} = shifted(sums, {k + 2} * size)" for k in range(len(learn) - len(learned))]
    arguments = "pre, grad_spikes, grad_u, grad_current, grad_sum, x, mean, sums, sums_x, numbers, rows, learned, size"
    return _text("back", arguments, ahead, body)


def _sums_text(normalise: bool, count: int) -> tuple[str, str]:
    """Return functions that add sums per channel to float64 ones, and that clear them."""
    scopes = [(0, SUM), (1, SUM_X)] * normalise + [(k + 2, SUM_Q + k) for k in range(count)]
    fold = [
        f"fold{scope}(shifted(sums, {k} * size), shifted(partial, {k} * channels), at, n, run, channels)"
        for k, scope in scopes
    ]
    clear = [f"clear{scope}(shifted(sums, {k} * size), size)" for k, scope in scopes]
    return (
        "\n    ".join(["def fold(sums, partial, at, run, channels, size, n):", *fold, "return"]) + "\n",
        "\n    ".join(["def clear(sums, size):", *clear, "return"]) + "\n",
    )


@cache
def _made(text: str) -> Any:
    """Compile a text that defines one function, as a loop."""
    names = dict(_NAMES)
    for scope in (SUM, SUM_X, *range(SUM_Q, SUM_Q + MOST_Q)):
        names[f"fold{scope}"], names[f"clear{scope}"] = pattern.make_fold(scope), pattern.make_clear(scope, _ZERO)
    exec(compile(text, "<neuron>", "exec"), names)
    return loop(names[text[4 : text.index("(")]])


def make_forward(text: str, scalars: int, normalise: bool, add: bool) -> tuple[dict[str, Any], str]:
    """Return what the forward kernel calls, and the text it is made of."""
    fire = fire_text(text, scalars, normalise, add)
    return {"fire": _made(fire)}, fire


def make_backward(
    text: str, scalars: int, learn: tuple[str, ...], carry: bool, normalise: bool, add: bool, static: bool, write: bool
) -> tuple[dict[str, Any], str]:
    """Return what the backward kernel calls, and the text it is made of."""
    kept = backward(text, learn, carry).kept
    texts = [
        fire_text(text, scalars, normalise, add, kept),
        back_text(text, scalars, learn, carry, normalise, static, write),
        *_sums_text(normalise, sum(name[0] == "q" for name in learn)),
    ]
    return {made[4 : made.index("(")]: _made(made) for made in texts}, "".join(texts)


@reduction
def total(learned: Any, n: int) -> Any:
    """Return the sum of a tile."""
    out = _ZERO
    for j in range(n):
        out += memory.load(learned, j, LEARNED)
    return out
