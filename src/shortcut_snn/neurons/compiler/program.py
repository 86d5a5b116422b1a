"""A time step of a neuron as a list of operations, its derivative, and the source text of both.

A program is text, such as ``v0=mul s0 c0;v1=add v0 i;...``, one operation for each value: ``i`` is the input current,
``s0, s1, ...`` the states before the step, ``p0, ...`` parameters that are one number for the layer, ``q0, ...`` those
that are one for each channel, ``c0, ...`` numbers given at each call, so that one kernel serves for all of them;
whole numbers in the text stand for themselves. :func:`emit` writes it as Python that plain PyTorch, numba and Triton
all run, each with its own ``where``, ``exp`` and so on. The gradient is formed operation by operation from ``RULES``.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations

# How an operation is written; what is no infix is a function that each backend has.
INFIX = {
    "add": "{} + {}", "sub": "{} - {}", "mul": "{} * {}", "div": "{} / {}", "neg": "-{}",
    "gt": "{} > {}", "lt": "{} < {}", "ge": "{} >= {}", "le": "{} <= {}", "eq": "{} == {}", "ne": "{} != {}",
    "both": "{} & {}", "either": "{} | {}",
}  # fmt: skip
TRUTH = frozenset({"gt", "lt", "ge", "le", "eq", "ne", "both", "either", "negation"})
"""Operations whose value is true or false."""
CALLS = frozenset(
    {"negation", "number", "where", "abs", "exp", "log", "sqrt", "tanh", "sigmoid", "maximum", "minimum", "round",
     "floor"}
)  # fmt: skip
# One value and the gradient of another: value, what the gradient goes to, ds/du there.
SPIKE, DETACH = "spike", "detach"

Instruction = tuple[str, str, tuple[str, ...]]


@dataclass(frozen=True)
class Program:
    """Operations in order; ``outputs`` are the spikes and then the states after the step."""

    code: tuple[Instruction, ...]
    outputs: tuple[str, ...]

    @property
    def states(self) -> int:
        """How many states there are."""
        return len(self.outputs) - 1

    def __str__(self) -> str:
        """Return the text, which says all."""
        lines = (f"{name}={op} {' '.join(args)}" for name, op, args in self.code)
        return f"{';'.join(lines)}|{' '.join(self.outputs)}"


@cache
def read(text: str) -> Program:
    """Return the program of a text."""
    code, outputs = text.split("|")
    lines = (re.split("[= ]", line) for line in code.split(";") if line)
    return Program(tuple((name, op, tuple(args)) for name, op, *args in lines), tuple(outputs.split()))


def is_given(name: str) -> bool:
    """Say whether a value comes from outside, and is no state and not the current."""
    return name[0] not in "vgis"


def inputs(code: Iterable[Instruction], kind: str, *more: str) -> list[str]:
    """Return the values of a kind, by its letter, that a piece of code or a list of names reads, in order."""
    found = {arg for _, _, args in code for arg in args} | set(more)
    return sorted((name for name in found if name[0] == kind and name[1:].isdigit()), key=lambda name: int(name[1:]))


def needed(code: Sequence[Instruction], wanted: Iterable[str], stop: Iterable[str] = ()) -> list[Instruction]:
    """Return the instructions that the wanted values take, given those to stop at."""
    open_, known, kept = set(wanted), set(stop), []
    for name, op, args in reversed(code):
        if name in open_ and name not in known:
            kept.append((name, op, args))
            # What the spike itself is made of; the rest of it is for the way back.
            open_ |= {args[0]} if op == SPIKE else set(args)
    return kept[::-1]


def forward_code(program: Program, kept: Sequence[str] = ()) -> list[Instruction]:
    """Return what a step takes forwards, and what else it is to keep."""
    return needed(program.code, (*program.outputs, *kept))


@cache
def forward_text(text: str) -> str:
    """Return the program of a text without what is for the way back alone."""
    program = read(text)
    new: dict[str, str] = {}
    code: list[Instruction] = []
    for name, op, args in forward_code(program):
        own = args[:1] if op == SPIKE else args
        if op in (SPIKE, DETACH):
            new[name] = new.get(own[0], own[0])
        else:
            new[name] = f"v{len(code)}"
            code.append((new[name], op, tuple(new.get(arg, arg) for arg in own)))
    return str(Program(tuple(code), tuple(new.get(name, name) for name in program.outputs)))


class _Writer:
    """Appends operations, and leaves out what is known beforehand."""

    def __init__(self) -> None:
        self.code: list[Instruction] = []

    def __call__(self, op: str, *args: str) -> str:
        if op == "mul" and "1" in args:
            return args[0] if args[1] == "1" else args[1]
        if op == "neg" and args[0] == "1":
            return "-1"
        name = f"g{len(self.code)}"
        self.code.append((name, op, args))
        return name


def _rule(w: _Writer, op: str, g: str, out: str, a: tuple[str, ...]) -> dict[int, str]:
    """Return the gradients of an operation's arguments, by their place, from that of its value."""
    match op:
        case "add":
            return {0: g, 1: g}
        case "sub":
            return {0: g, 1: w("neg", g)}
        case "mul":
            return {0: w("mul", g, a[1]), 1: w("mul", g, a[0])}
        case "div":
            return {0: w("div", g, a[1]), 1: w("neg", w("div", w("mul", g, out), a[1]))}
        case "neg":
            return {0: w("neg", g)}
        case "abs":
            return {0: w("where", w("gt", a[0], "0"), g, w("where", w("lt", a[0], "0"), w("neg", g), "0"))}
        case "exp":
            return {0: w("mul", g, out)}
        case "log":
            return {0: w("div", g, a[0])}
        case "sqrt":
            return {0: w("div", g, w("add", out, out))}
        case "tanh":
            return {0: w("mul", g, w("sub", "1", w("mul", out, out)))}
        case "sigmoid":
            return {0: w("mul", g, w("mul", out, w("sub", "1", out)))}
        case "maximum" | "minimum":
            first = w("ge" if op == "maximum" else "le", a[0], a[1])
            return {0: w("where", first, g, "0"), 1: w("where", first, "0", g)}
        case "where":
            return {1: w("where", a[0], g, "0"), 2: w("where", a[0], "0", g)}
        case "spike":
            return {1: w("mul", g, a[2])}
        case _:  # Steps, comparisons and what is detached: no gradient.
            return {}


@dataclass(frozen=True)
class Backward:
    """The way back through a step.

    Args:
        kept: values that the way there keeps, one number each for an element and time step.
        again: what is computed again from them.
        code: the gradient's own operations.
        grads: names of the gradients of the current, of each state, and of each parameter asked for; "0" where none.
    """

    kept: tuple[str, ...]
    again: tuple[Instruction, ...]
    code: tuple[Instruction, ...]
    grads: dict[str, str]


@cache
def backward(text: str, learn: tuple[str, ...], carry: bool) -> Backward:
    """Derive the way back.

    Args:
        text: the step's program.
        learn: parameters whose gradient is wanted.
        carry: whether the gradient travels from a step to the one before (else it is spatial learning through time).
    """
    program, w = read(text), _Writer()
    # Which values a gradient leads through at all.
    sources = {"i", *learn} | ({f"s{k}" for k in range(program.states)} if carry else set())
    alive = set(sources)
    for name, op, args in program.code:
        through = {"spike": args[1:2], "where": args[1:], DETACH: ()}.get(op, args)
        if op not in TRUTH and alive & set(through):
            alive.add(name)
    grads: dict[str, str] = {}

    def give(name: str, gradient: str) -> None:
        grads[name] = w("add", grads[name], gradient) if name in grads else gradient

    if program.outputs[0] in alive:
        give(program.outputs[0], "gy")
    for k, name in enumerate(program.outputs[1:]):
        if carry and name in alive:
            give(name, f"go{k}")
    for name, op, args in reversed(program.code):
        if name in grads and name in alive:
            wanted = [place for place, arg in enumerate(args) if arg in alive]
            for place, gradient in _rule(w, op, grads[name], name, args).items():
                if place in wanted:
                    give(args[place], gradient)
    found = {name: grads.get(name, "0") for name in sources}
    code = live_code(w.code, found.values())
    own = {name for name, _, _ in code}
    values = {arg for _, _, args in code for arg in args if arg not in own} | {
        name for name in found.values() if name not in own
    }
    values = {name for name in values if name[0] in "vis"}
    kept = _cut(program, values)
    return Backward(kept, tuple(needed(program.code, values, kept)), tuple(code), found)


def live_code(code: Sequence[Instruction], wanted: Iterable[str]) -> list[Instruction]:
    """Return the instructions that the wanted values take, the slopes of spikes among them."""
    open_, kept = set(wanted), []
    for name, op, args in reversed(code):
        if name in open_:
            kept.append((name, op, args))
            open_ |= set(args)
    return kept[::-1]


def _cut(program: Program, values: set[str]) -> tuple[str, ...]:
    """Return the fewest values from which all others that are wanted follow; late ones, if there is a choice."""
    made = {name: (op, args) for name, op, args in program.code}
    numbers = [name for name, op, _ in reversed(program.code) if op not in TRUTH]
    states = [f"s{k}" for k in range(program.states)]

    def follows(kept: tuple[str, ...]) -> bool:
        seen: set[str] = set()

        def ends(name: str) -> bool:
            if name in kept or name in seen or is_given(name):
                return True
            if name not in made:
                return False
            seen.add(name)
            op, args = made[name]
            return all(ends(arg) for arg in (args[:1] if op == SPIKE else args))

        return all(ends(name) for name in values)

    for size in range(program.states + 2):
        for kept in combinations([*numbers, *states, "i"], size):
            if follows(kept):
                return kept
    return ("i", *states)


def simplified(code: Iterable[Instruction], results: Iterable[str]) -> list[Instruction]:
    """Return code that gives the same results with fewer operations.

    A comparison's 1 or 0 that is multiplied by becomes a choice, so that what is left out may be infinite.
    """
    same: dict[str, str] = {}
    made: dict[str, tuple[str, tuple[str, ...]]] = {}
    truth: dict[str, tuple[str, bool]] = {}
    new: list[Instruction] = []
    for name, op, given in code:
        args = tuple(same.get(arg, arg) for arg in given)
        if op in (SPIKE, DETACH):
            same[name], op, args = args[0], DETACH, args[:1]
        elif op == "number":
            truth[name] = args[0], True
        elif op == "sub" and args[0] == "1" and args[1] in truth:
            condition, which = truth[args[1]]
            truth[name] = condition, not which
            op, args = "where", (condition, *(("0", "1") if which else ("1", "0")))
        elif op == "mul" and (args[0] in truth or args[1] in truth):
            first, other = args if args[0] in truth else args[::-1]
            condition, which = truth[first]
            op, args = "where", (condition, other, "0") if which else (condition, "0", other)
        elif op in TRUTH and args[-1] == "0" and made.get(args[0], ("",))[0] == "sub":
            args = made[args[0]][1]
        elif op in ("add", "sub") and made.get(args[1], ("",))[0] == "neg":
            op, args = "sub" if op == "add" else "add", (args[0], made[args[1]][1][0])
        made[name] = op, args
        new.append((name, op, args))
    return live_code(new, results)


def emit(code: Iterable[Instruction], results: Iterable[str], number: str = "{}") -> list[str]:
    """Return lines of Python, one for each operation that the results take.

    ``number`` says how whole numbers are written.
    """
    return [
        f"{name} = {expression(op, [literal(arg, number) for arg in args])}"
        for name, op, args in simplified(code, results)
    ]


def literal(name: str, number: str = "{}") -> str:
    """Return a name, or a whole number as it is written."""
    return number.format(f"{name}.0") if name.lstrip("-").isdigit() else name


def expression(op: str, args: Sequence[str]) -> str:
    """Return one operation as Python."""
    if op in (SPIKE, DETACH):
        return args[0]
    return INFIX[op].format(*args) if op in INFIX else f"{op}({', '.join(args)})"
