"""The membrane potential of a layer of neurons between two calls of a network."""

from dataclasses import dataclass

from torch import Tensor


@dataclass
class Membrane:
    """What a layer that is run piece by piece starts from, and where it has come to.

    Args:
        before: membrane potential ``[N, ...]`` before the first step, or None for 0.
        after: the one after the last step, once the layer has run.
    """

    before: Tensor | None = None
    after: Tensor | None = None
