"""Generate the loops over a tile from a neuron's program: a step forward, the same recomputed, and a step back.

States are consecutive in ``u``, TILE numbers each. So are their gradients in ``grad_u``, and the values in ``saved``.
"""

from collections.abc import Iterable, Sequence
from functools import cache, partial
from typing import Any

import numpy as np

from ...compiler.backward import derive_backward
from ...compiler.program import Instruction, emit, forward_code, inputs_of, literal, parse, simplify
from . import memory, pattern, primitives
from .build import TILE, loop, reduction
from .memory import LEARNED, MAX_Q, SUM, SUM_Q, SUM_X

_ZERO = np.float32(0.0)
# How an integer literal of a program is written: numba would compute with a double.
_FLOAT32 = "f32({})"
_float = partial(literal, integer=_FLOAT32)
_NAMES: dict[str, Any] = {
    **primitives.NAMES, **{name: getattr(memory, name) for name in vars(memory) if name.isupper()},
    "load": memory.load, "store": memory.store, "shifted": memory.shifted, "TILE": TILE, "loop": loop,
}  # fmt: skip


def make_forward(text: str, scalars: int, normalise: bool, add: bool, slope: str | None) -> tuple[dict[str, Any], str]:
    """Return the loops that the forward kernel calls, by name, and their source; ``slope`` is a value to write too."""
    source = _fire_source(text, scalars, normalise, add, slope=slope)
    return {"fire": _compiled(source)}, source


def make_backward(
    text: str, scalars: int, learned: tuple[str, ...], through_time: bool, normalise: bool, add: bool, static: bool,
    write: bool,
) -> tuple[dict[str, Any], str]:  # fmt: skip
    """Return the loops that the backward kernel calls, by name, and their source."""
    saved = derive_backward(text, learned, through_time).saved
    sources = [
        _fire_source(text, scalars, normalise, add, saved),
        _back_source(text, scalars, learned, through_time, normalise, static, write),
        *_sums_sources(normalise, sum(name[0] == "q" for name in learned)),
    ]
    return {_function_name(source): _compiled(source) for source in sources}, "".join(sources)


def _fire_source(
    text: str, scalars: int, normalise: bool, add: bool, saved: Sequence[str] | None = None, slope: str | None = None
) -> str:
    """Return the source of ``fire``, which writes spikes; or of ``integrate``, which writes the values to save."""
    program = parse(text)
    spikes, *states_after = program.outputs
    further = saved or ([] if slope is None else [slope])
    results = [*states_after, *([spikes] if saved is None else []), *further]
    code = simplify(forward_code(program, further), results)
    states = [f"s{k}" for k in range(program.states)]
    body = [*_load_current(normalise, add), *_load_tiles(states, "u", "U")]
    body += _load_tiles(inputs_of(code, "q"), "rows", "ROW")
    body += emit(code, _FLOAT32)
    body += [f"store(u, j + {k * TILE}, {_float(name)}, U)" for k, name in enumerate(states_after)]
    if saved is None:
        body.append(f"store(out, j, {_float(spikes)}, OUT)")
        body += [] if slope is None else [f"store(slopes, j, {_float(slope)}, SAVED)"]
    else:
        body += [f"store(out, j + {k * TILE}, {name}, SAVED)" for k, name in enumerate(saved)]
    arguments = "x, residual, scale, shift, u, out, numbers, rows"
    name, arguments = ("fire", f"{arguments}, slopes") if saved is None else ("integrate", arguments)
    return _loop_source(name, arguments, _load_numbers(code, results, scalars), body)


def _back_source(
    text: str, scalars: int, learned: tuple[str, ...], through_time: bool, normalise: bool, static: bool, write: bool
) -> str:
    """Return the source of ``back``, the loop of a step back.

    On entry ``grad_u`` holds the gradients of the states after the step, on return those of the states before. The
    gradient of the current goes to ``grad_current``, and if the current is constant, it is added to ``grad_sum``. The
    sums of the gradient, alone and times x - mean, are added to ``sums`` and ``sums_x``.
    """
    program = parse(text)
    derived = derive_backward(text, learned, through_time)
    gradients = derived.gradients
    results = list(gradients.values())
    code = simplify(derived.code, results)
    read = {arg for line in code for arg in line.args} | set(results)
    states = range(program.states)
    scalar_names = [name for name in learned if name[0] == "p"]
    channel_names = [name for name in learned if name[0] == "q"]

    body = [f"{name} = load(saved, j + {k * TILE}, SAVED)" for k, name in enumerate(derived.saved)]
    body += _load_tiles(inputs_of(code, "q", results), "rows", "ROW")
    body += ["gy = load(grad_spikes, j, GRAD)"] if "gy" in read else []
    body += [f"go{k} = load(grad_u, j + {k * TILE}, GRAD_U)" for k in states if f"go{k}" in read]
    body += emit(code, _FLOAT32)
    if through_time:
        body += [f"store(grad_u, j + {k * TILE}, {_float(gradients[f's{k}'])}, GRAD_U)" for k in states]
    body.append(f"gi = {_float(gradients['i'])}")
    if static:
        body.append("store(grad_sum, j, load(grad_sum, j, GRAD_SUM) + gi, GRAD_SUM)")
    if write:
        body.append("store(grad_current, j, gi, GRAD_CURRENT)")
    if normalise and not static:
        body += [
            "store(sums, j, load(sums, j, SUM) + gi, SUM)",
            "store(sums_x, j, load(sums_x, j, SUM_X) + gi * (load(x, j, X) - load(mean, j, ROW)), SUM_X)",
        ]
    for k, name in enumerate(scalar_names):
        index = f"j + {k * TILE}"
        body.append(f"store(learned, {index}, load(learned, {index}, LEARNED) + {_float(gradients[name])}, LEARNED)")
    for k, name in enumerate(channel_names):
        scope = SUM_Q + k
        body.append(f"store(sums_q{k}, j, load(sums_q{k}, j, {scope}) + {_float(gradients[name])}, {scope})")

    before_loop = _load_numbers(code, results, scalars)
    before_loop += [f"sums_q{k} = shifted(sums, {k + 2} * size)" for k in range(len(channel_names))]
    buffers = "saved, grad_spikes, grad_u, grad_current, grad_sum, x, mean, sums, sums_x, numbers, rows, learned"
    return _loop_source("back", f"{buffers}, size", before_loop, body)


def _sums_sources(normalise: bool, learned_channels: int) -> tuple[str, str]:
    """Return the sources of ``fold``, which adds all sums per channel to float64 ones, and of ``clear``."""
    scopes = [(0, SUM), (1, SUM_X)] * normalise + [(k + 2, SUM_Q + k) for k in range(learned_channels)]
    fold = [
        f"fold{scope}(shifted(sums, {k} * size), shifted(partial, {k} * channels), at, n, run, channels)"
        for k, scope in scopes
    ]
    clear = [f"clear{scope}(shifted(sums, {k} * size), size)" for k, scope in scopes]
    return (
        "\n    ".join(["def fold(sums, partial, at, run, channels, size, n):", *fold, "return"]) + "\n",
        "\n    ".join(["def clear(sums, size):", *clear, "return"]) + "\n",
    )


def _loop_source(name: str, arguments: str, before_loop: Sequence[str], body: Sequence[str]) -> str:
    lines = [f"def {name}({arguments}, n):", *before_loop, "for j in range(n):"]
    return "\n    ".join(lines) + "".join(f"\n        {line}" for line in body or ["pass"]) + "\n"


def _load_numbers(code: Iterable[Instruction], results: Sequence[str], scalars: int) -> list[str]:
    """Load scalars and constants once, before the loop; in ``numbers`` the scalars come first."""
    code = list(code)
    indices = {name: int(name[1:]) for name in inputs_of(code, "p", results)}
    indices |= {name: scalars + int(name[1:]) for name in inputs_of(code, "c", results)}
    return [f"{name} = load(numbers, {index}, NUMBER)" for name, index in indices.items()]


def _load_current(normalise: bool, add: bool) -> list[str]:
    lines = ["i = load(x, j, X)"]
    if normalise:
        lines.append("i = i * load(scale, j, ROW) + load(shift, j, ROW)")
    return [*lines, "i = i + load(residual, j, RESIDUAL)"] if add else lines


def _load_tiles(names: Iterable[str], buffer: str, scope: str) -> list[str]:
    """Load values that are consecutive tiles of a buffer, by their numbers."""
    return [f"{name} = load({buffer}, j + {int(name[1:]) * TILE}, {scope})" for name in names]


def _function_name(source: str) -> str:
    return source.removeprefix("def ").partition("(")[0]


@cache
def _compiled(source: str) -> Any:
    """Compile the source of one function as a loop."""
    names = dict(_NAMES)
    for scope in (SUM, SUM_X, *range(SUM_Q, SUM_Q + MAX_Q)):
        names[f"fold{scope}"], names[f"clear{scope}"] = pattern.make_fold(scope), pattern.make_clear(scope)
    exec(compile(source, "<neuron>", "exec"), names)
    return loop(names[_function_name(source)])


@reduction
def total(learned: Any, n: int) -> Any:
    """Return the sum of a tile."""
    out = _ZERO
    for j in range(n):
        out += memory.load(learned, j, LEARNED)
    return out
