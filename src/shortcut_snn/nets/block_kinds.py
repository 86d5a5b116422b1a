"""The blocks there are, by name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import nn

from .blocks import BasicBlock, MakeNeuron
from .ms import MSBlock
from .plain import PlainBlock
from .sew import SEWBlock

Block = Literal["basic", "sew", "ms", "plain"]


@dataclass(frozen=True)
class BlockKind:
    """What a network must know of its blocks."""

    make: Callable[[int, int, int, MakeNeuron], nn.Module]
    """From input channels, output channels, stride and neuron to a block."""
    summed: tuple[str, ...]
    """Norms in it whose values are added to a residual before a neuron (see :mod:`.norms`)."""
    carries_spikes: bool = True
    """Whether spikes go from block to block; else it is currents, and a neuron has to follow the last block."""


_KINDS: dict[Block, BlockKind] = {
    "basic": BlockKind(BasicBlock, ("spike2.norm", "project.norm")),
    "sew": BlockKind(SEWBlock, ()),
    "ms": BlockKind(MSBlock, ("norm2", "project.norm"), carries_spikes=False),
    "plain": BlockKind(PlainBlock, ()),
}


def block_kind(name: Block) -> BlockKind:
    """Return the kind of a name.

    Raises:
        ValueError: an unknown name; the message lists those there are.
    """
    if name not in _KINDS:
        raise ValueError(f"unknown block {name!r}: use one of {', '.join(_KINDS)}")
    return _KINDS[name]
