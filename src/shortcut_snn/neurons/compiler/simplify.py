"""Shorten a program's code: a table of local rewrites, applied to one instruction at a time.

Surrogates and resets multiply by the 0 or 1 of a comparison, as in ``u * (1 - spike)``. Such a product becomes a
selection. It costs less, and the factor that is left out may be infinite.
"""

from collections.abc import Callable, Iterable

from .program import BOOLEAN, DETACH, SPIKE, Instruction, live_code


def simplify(code: Iterable[Instruction], results: Iterable[str]) -> list[Instruction]:
    """Return code that computes the same results with fewer operations; unused instructions are dropped."""
    context, simple = _Context(), []
    for instruction in code:
        # Arguments that are copies are replaced by the values themselves.
        line = instruction._replace(args=tuple(context.aliases.get(arg, arg) for arg in instruction.args))
        current = next(filter(None, (rule(context, line) for rule in _RULES)), line)
        context.definitions[current.name] = current
        simple.append(current)
    return live_code(simple, results)


class _Context:
    """Facts about the values computed so far."""

    def __init__(self) -> None:
        self.definitions: dict[str, Instruction] = {}
        self.aliases: dict[str, str] = {}
        # Values that are 0 or 1: the condition, and whether the value is 1 where the condition holds.
        self.indicators: dict[str, tuple[str, bool]] = {}


def _copy(context: _Context, line: Instruction) -> Instruction | None:
    """``spike(a, v, slope)`` and ``detach(a)`` are copies of a: later instructions read a itself."""
    if line.op not in (SPIKE, DETACH):
        return None
    context.aliases[line.name] = line.args[0]
    return Instruction(line.name, DETACH, line.args[:1])


def _indicator(context: _Context, line: Instruction) -> Instruction | None:
    """``number(condition)`` is 1 where the condition holds and 0 elsewhere."""
    if line.op != "number":
        return None
    context.indicators[line.name] = line.args[0], True
    return line


def _complement(context: _Context, line: Instruction) -> Instruction | None:
    """``1 - indicator`` is the opposite indicator."""
    if line.op != "sub" or line.args[0] != "1" or line.args[1] not in context.indicators:
        return None
    condition, one_if_true = context.indicators[line.args[1]]
    context.indicators[line.name] = condition, not one_if_true
    return Instruction(line.name, "where", (condition, *(("0", "1") if one_if_true else ("1", "0"))))


def _masking(context: _Context, line: Instruction) -> Instruction | None:
    """``indicator * a`` is a where the indicator is 1, and 0 elsewhere."""
    if line.op != "mul" or not (line.args[0] in context.indicators or line.args[1] in context.indicators):
        return None
    indicator, factor = line.args if line.args[0] in context.indicators else line.args[::-1]
    condition, one_if_true = context.indicators[indicator]
    return Instruction(line.name, "where", (condition, factor, "0") if one_if_true else (condition, "0", factor))


def _compared_difference(context: _Context, line: Instruction) -> Instruction | None:
    """``a - b > 0`` is ``a > b``."""
    if line.op not in BOOLEAN or line.args[-1] != "0":
        return None
    difference = context.definitions.get(line.args[0])
    return line._replace(args=difference.args) if difference is not None and difference.op == "sub" else None


_RULES: tuple[Callable[[_Context, Instruction], Instruction | None], ...] = (
    _copy, _indicator, _complement, _masking, _compared_difference,
)  # fmt: skip
