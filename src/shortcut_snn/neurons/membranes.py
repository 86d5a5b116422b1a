"""The membrane potentials of a whole network between two calls of it."""

from torch import Tensor


class Membranes:
    """Membrane potentials in the order in which the neurons run: read before a call, gathered during it.

    Args:
        before: one for each layer of neurons, or nothing to start from 0.
    """

    def __init__(self, before: tuple[Tensor, ...] = ()) -> None:
        self.before = before
        self.after: list[Tensor] = []

    def take(self) -> Tensor | None:
        """Return what the neurons that run now had before, or None for 0."""
        return self.before[len(self.after)] if self.before else None

    def keep(self, final: Tensor) -> None:
        """Note what they have now."""
        self.after.append(final)
