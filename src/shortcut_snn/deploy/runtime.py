"""What runs an exported network, whatever its format."""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

State = Sequence[Tensor]
"""Membrane potentials, one for each layer of neurons."""


class Runtime(Protocol):
    """A network that takes bytes of images, or counts of events, as they come from a data set."""

    def whole(self, images: Tensor) -> Tensor:
        """Map images uint8 ``[N, C, H, W]``, or frames ``[N, T, C, H, W]``, to logits ``[N, num_classes]``.

        Raises:
            ValueError: it runs single time steps only.
        """
        ...

    def step(self, frame: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Map a frame ``[N, C, H, W]`` to this time step's logits, and the state before it to the one after it.

        Raises:
            ValueError: it runs whole sequences only.
        """
        ...

    def spikes(self, images: Tensor) -> dict[str, Tensor]:
        """Return the spikes of every layer of neurons on a batch as :meth:`whole` takes it, ``[T, N, ...]`` each."""
        ...


def by_steps(runtime: Runtime, images: Tensor, time_steps: int) -> Tensor:
    """Return the logits of a whole sequence from a runtime that takes it step by step."""
    state: State | None = None
    total: Tensor | None = None
    for t in range(time_steps):
        logits, state = runtime.step(images[:, t] if images.dim() == 5 else images, state)
        total = logits if total is None else total + logits
    assert total is not None
    return total / time_steps
