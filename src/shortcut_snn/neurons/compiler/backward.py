"""The backward pass of a program: reverse-mode differentiation of one time step, instruction by instruction."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from math import comb

from . import program as ir

_MOST_COMBINATIONS = 100_000


@dataclass(frozen=True)
class BackwardStep:
    """The backward pass through one time step.

    ``code`` computes values of the forward pass from the ``saved`` ones, then gradients. ``gradients`` names those of
    the current, of each state and of each learned parameter; "0" if there is none.
    """

    saved: tuple[str, ...]
    code: tuple[ir.Instruction, ...]
    gradients: dict[str, str]


@cache
def derive_backward(text: str, learned: tuple[str, ...], through_time: bool) -> BackwardStep:
    """Derive the backward pass of a program; without ``through_time`` no gradient travels to the step before (SLTT).

    1. Mark the values between the sources (current, states, learned parameters) and the outputs.
    2. Seed the gradients of the outputs: ``gy`` for the spikes, ``go0, ...`` for the states after the step.
    3. Go through the instructions in reverse, and add each one's gradients to its arguments'.
    4. Drop gradient code that no source needs.
    5. Choose what the forward pass saves, and recompute the rest from that.
    """
    program = ir.parse(text)
    states = [f"{ir.STATE}{k}" for k in range(program.states)]
    sources = [ir.CURRENT, *states, *learned]
    active = _active_values(program, {ir.CURRENT, *learned, *(states if through_time else ())})

    gradients: dict[str, str] = {}
    instructions: list[ir.Instruction] = []

    def code(op: str, *args: str) -> str:
        """Append an instruction, without factors of 1, and return the name of its value."""
        if op == "mul" and "1" in args:
            return args[0] if args[1] == "1" else args[1]
        if op == "neg" and args[0] == "1":
            return "-1"
        name = f"{ir.GRADIENT}{len(instructions)}"
        instructions.append(ir.Instruction(name, op, args))
        return name

    def add(name: str, gradient: str) -> None:
        gradients[name] = code("add", gradients[name], gradient) if name in gradients else gradient

    spikes, *final_states = program.outputs
    if spikes in active:
        add(spikes, "gy")
    for k, name in enumerate(final_states):
        if through_time and name in active:
            add(name, f"go{k}")
    for name, op, args in reversed(program.code):
        if name in gradients and name in active:
            targets = [index for index, arg in enumerate(args) if arg in active]
            for index, gradient in _argument_gradients(code, op, gradients[name], name, args).items():
                if index in targets:
                    add(args[index], gradient)

    source_gradients = {name: gradients.get(name, "0") for name in sources}
    gradient_code = ir.needed_code(instructions, source_gradients.values())
    read = {arg for line in gradient_code for arg in line.args} | set(source_gradients.values())
    wanted = {name for name in read if name[0] in (ir.VALUE, ir.CURRENT, ir.STATE)}
    saved = choose_saved_values(program, wanted)
    recomputed = ir.needed_code(program.code, wanted, saved)
    return BackwardStep(saved, (*recomputed, *gradient_code), source_gradients)


def _active_values(program: ir.Program, sources: set[str]) -> set[str]:
    """Return the values that depend on a source by a path that a gradient takes."""
    active = set(sources)
    for name, op, args in program.code:
        differentiable = {ir.SPIKE: args[1:2], "where": args[1:], ir.DETACH: ()}.get(op, args)
        if op not in ir.BOOLEAN and active & set(differentiable):
            active.add(name)
    return active


def _argument_gradients(code: Callable[..., str], op: str, g: str, out: str, a: tuple[str, ...]) -> dict[int, str]:
    """Append the code for the gradients of the arguments ``a`` from ``g``, that of ``out``; return these by index."""
    match op:
        case "add":
            return {0: g, 1: g}
        case "sub":
            return {0: g, 1: code("neg", g)}
        case "mul":
            return {0: code("mul", g, a[1]), 1: code("mul", g, a[0])}
        case "div":
            return {0: code("div", g, a[1]), 1: code("neg", code("div", code("mul", g, out), a[1]))}
        case "neg":
            return {0: code("neg", g)}
        case "abs":
            positive = code("gt", a[0], "0")
            return {0: code("where", positive, g, code("where", code("lt", a[0], "0"), code("neg", g), "0"))}
        case "exp":
            return {0: code("mul", g, out)}
        case "log":
            return {0: code("div", g, a[0])}
        case "sqrt":
            return {0: code("div", g, code("add", out, out))}
        case "tanh":
            return {0: code("mul", g, code("sub", "1", code("mul", out, out)))}
        case "sigmoid":
            return {0: code("mul", g, code("mul", out, code("sub", "1", out)))}
        case "maximum" | "minimum":
            # As in PyTorch, each gets half of the gradient where they are equal.
            shared = code("where", code("eq", a[0], a[1]), code("div", g, "2"), g)
            less, greater = ("lt", "gt") if op == "maximum" else ("gt", "lt")
            return {
                0: code("where", code(less, a[0], a[1]), "0", shared),
                1: code("where", code(greater, a[0], a[1]), "0", shared),
            }
        case "where":
            return {1: code("where", a[0], g, "0"), 2: code("where", a[0], "0", g)}
        case "spike":
            return {1: code("mul", g, a[2])}
        case _:  # Rounding, comparisons and detached values have no gradient.
            return {}


def choose_saved_values(program: ir.Program, wanted: set[str]) -> tuple[str, ...]:
    """Return the fewest values from which all wanted ones can be computed: a minimum vertex cut.

    Saved values cost memory traffic at every element and time step; recomputing costs a few instructions in registers.
    A step has few values, so all combinations are tried, the smallest first and late values before early ones.
    """
    definitions = {instruction.name: instruction for instruction in program.code}
    states = [f"{ir.STATE}{k}" for k in range(program.states)]
    candidates = [instruction.name for instruction in reversed(program.code) if instruction.op not in ir.BOOLEAN]
    candidates += [*states, ir.CURRENT]
    for size in range(program.states + 2):
        # Of many states and values, all combinations would take hours.
        if comb(len(candidates), size) > _MOST_COMBINATIONS:
            break
        for saved in combinations(candidates, size):
            if _is_cut(definitions, wanted, set(saved)):
                return saved
    return (ir.CURRENT, *states)


def _is_cut(definitions: dict[str, ir.Instruction], wanted: set[str], saved: set[str]) -> bool:
    """Return whether all wanted values follow from the saved ones, parameters and constants."""
    visited: set[str] = set()
    pending = list(wanted)
    while pending:
        name = pending.pop()
        if name in saved or name in visited or ir.is_external(name):
            continue
        if name not in definitions:
            return False
        visited.add(name)
        instruction = definitions[name]
        pending += instruction.args[:1] if instruction.op == ir.SPIKE else instruction.args
    return True
