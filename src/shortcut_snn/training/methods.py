"""What a method's name stands for: entries of the recipe, so that a rival is a recipe like any other.

This module does not import torch.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from .recipe import MethodConfig, Recipe

PaperMethod = Literal["vanilla", "shortcut", "evolutionary"]
Method = Literal[
    "vanilla",
    "shortcut",
    "evolutionary",
    "calibrated",
    "deep_supervision",
    "distillation",
    "tet",
    "tdbn",
    "sew",
    "ms",
    "sltt",
    "rate",
]

BRANCHES = ("taps", "schedule", "initial")
"""Entries of the method that mean something where there are branches."""


@dataclass(frozen=True)
class Kind:
    """A method: what it is made of."""

    objective: str = "logit_sum"
    """Its own objective, which without branches is the cross-entropy of the main output."""
    others: tuple[str, ...] = ()
    """Objectives that the recipe may name in its place."""
    takes: tuple[str, ...] = ()
    """Entries of ``method`` that change it, the objective aside."""
    taps: str = "stages"
    schedule: str = "constant"
    initial: float = 0.0
    sets: Mapping[str, Any] = field(default_factory=dict)
    """Entries elsewhere in the recipe that it consists of."""

    @property
    def branches(self) -> bool:
        """Whether it trains with branches."""
        return "taps" in self.takes


_SUMS = ("logit_sum", "loss_sum", "loss_mean")
KINDS: dict[Method, Kind] = {
    "vanilla": Kind(others=_SUMS),
    "shortcut": Kind(others=_SUMS, takes=BRANCHES, initial=1.0),
    "evolutionary": Kind(others=_SUMS, takes=BRANCHES, schedule="linear", initial=0.25),
    "calibrated": Kind(
        "loss_sum",
        others=_SUMS,
        takes=BRANCHES,
        taps="blocks",
        schedule="linear",
        initial=0.25,
        sets={"neuron.surrogate.calibrate": True},
    ),
    "deep_supervision": Kind("loss_sum", others=("loss_sum", "loss_mean"), takes=BRANCHES, initial=1.0),
    "distillation": Kind("distillation", takes=(*BRANCHES, "distillation"), initial=1.0),
    "tet": Kind("tet", takes=("tet",)),
    "tdbn": Kind(sets={"network.norm": "tdbn"}),
    "sew": Kind(sets={"network.block": "sew"}),
    "ms": Kind(sets={"network.block": "ms"}),
    "sltt": Kind(sets={"neuron.gradient": "sltt"}),
    "rate": Kind(sets={"neuron.gradient": "rate"}),
}


def _get(recipe: "Recipe", key: str) -> Any:
    return reduce(getattr, key.split("."), recipe)


def resolved(recipe: "Recipe") -> "Recipe":
    """Return the recipe with everything said that its method's name stands for."""
    whole = copy.deepcopy(recipe)
    kind = KINDS[whole.method.name]
    for key, value in kind.sets.items():
        section, _, entry = key.rpartition(".")
        setattr(_get(whole, section), entry, value)
    method = whole.method
    if method.taps is None:
        method.taps = kind.taps  # type: ignore[assignment]
    method.objective = method.objective or kind.objective  # type: ignore[assignment]
    method.schedule = method.schedule or kind.schedule  # type: ignore[assignment]
    method.initial = kind.initial if method.initial is None else method.initial
    return whole


def check(recipe: "Recipe") -> None:
    """Refuse entries that contradict the method or make no difference to it; vanilla ignores those of branches.

    An entry at its default counts as not said.

    Raises:
        ValueError: naming the entry and what to do.
    """
    name, kind, unsaid = recipe.method.name, KINDS[recipe.method.name], type(recipe)()
    for key, value in kind.sets.items():
        if _get(recipe, key) not in (value, _get(unsaid, key)):
            refuse(name, key, _get(recipe, key))
    objective = recipe.method.objective
    if objective is not None and objective not in kind.others:
        allowed = f"use {' or '.join(kind.others)}" if kind.others else "leave it out"
        raise ValueError(f"method.objective: {name} is not trained with {objective}; {allowed}")
    for key in _free(recipe.method):
        said = getattr(recipe.method, key) != getattr(unsaid.method, key)
        if said and key not in kind.takes and name != "vanilla":
            raise ValueError(f"method.{key} makes no difference to {name}; leave it out")
    whole = resolved(recipe)
    if whole.neuron.gradient == "rate":
        if name == "calibrated":
            raise ValueError(
                "method.name: calibrated needs gradients through time; use evolutionary with gradient rate"
            )
        if whole.neuron.surrogate.calibrate:
            raise ValueError("neuron.surrogate.calibrate needs gradients through time; leave it out with gradient rate")
        if recipe.neuron.kind == "plif":
            raise ValueError("neuron.gradient: rate has no gradient for the tau of neuron.kind: plif; use lif or if")
        if kind.objective == "tet":
            raise ValueError(
                "neuron.gradient: rate has no logits of single time steps, which tet needs; use bptt or sltt"
            )


def refuse(name: str, key: str, value: Any) -> None:
    """Say that an entry contradicts a method.

    Raises:
        ValueError: always.
    """
    wanted = KINDS[name].sets[key]  # type: ignore[index]
    raise ValueError(f"{key}: method {name} means {wanted}, not {value}; leave it out or choose another method")


def fits(name: Method, key: str) -> bool:
    """Say whether an entry of a recipe, by its dotted key, makes a difference to a method."""
    section, _, entry = key.partition(".")
    kind = KINDS[name]
    return section != "method" or entry.split(".")[0] in kind.takes or (entry == "objective" and kind.branches)


def carried(method: "MethodConfig", name: Method) -> "MethodConfig":
    """Return a method of another name with those entries of a given one that make a difference to it."""
    kind = KINDS[name]
    kept = {key: copy.deepcopy(getattr(method, key)) for key in _free(method) if key in kind.takes}
    if kind.branches and method.objective in kind.others:
        kept["objective"] = method.objective
    return type(method)(name, **kept)


def _free(method: "MethodConfig") -> list[str]:
    return [key for key in vars(method) if key not in ("name", "objective")]
