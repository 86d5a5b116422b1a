"""The neurons there are, by name."""

from typing import Any, Literal, get_args

from .modules import IF, LIF, PLIF, Neuron

Kind = Literal["lif", "if", "plif"]


def make_neuron(kind: Kind, tau: float, **options: Any) -> Neuron:
    """Return a neuron layer of a kind.

    Args:
        kind: its name.
        tau: decay of the membrane potential in a step, or where its learning starts; not used by ``"if"``.
        options: ``threshold``, ``surrogate``, ``reset`` and ``detach_reset`` of the neuron.

    Raises:
        ValueError: an unknown kind or a parameter out of range.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"unknown neuron {kind!r}: use one of {', '.join(get_args(Kind))}")
    if kind == "if":
        return IF(**options)
    return (LIF if kind == "lif" else PLIF)(tau, **options)
