"""Run the prelude of a step: what it computes from its parameters alone, in plain PyTorch."""

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .lowering import TracedStep

_OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv, "neg": operator.neg,
    "detach": torch.detach, "abs": torch.abs, "exp": torch.exp, "log": torch.log, "sqrt": torch.sqrt,
    "tanh": torch.tanh, "sigmoid": torch.sigmoid, "round": torch.round, "floor": torch.floor,
    "maximum": lambda a, b: torch.maximum(torch.as_tensor(a), torch.as_tensor(b)),
    "minimum": lambda a, b: torch.minimum(torch.as_tensor(a), torch.as_tensor(b)),
}  # fmt: skip


def run_prelude(step: TracedStep, module: Any) -> tuple[list[Tensor], list[Tensor]]:
    """Return the scalars and the channel parameters of a module's step, with their autograd graph."""
    values: dict[str, Any] = {f"c{k}": constant for k, constant in enumerate(step.constants)}
    for k, name in enumerate(step.parameter_names):
        *path, last = name.split(".")
        values[f"w{k}"] = getattr(module.get_submodule(".".join(path)), last)
    for name, op, args in step.prelude:
        values[name] = _OPERATIONS[op](*[values[arg] if arg in values else float(arg) for arg in args])
    return [values[name] for name in step.scalars], [values[name] for name in step.channels]
