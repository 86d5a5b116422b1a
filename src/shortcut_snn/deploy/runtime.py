"""What runs an exported network, and what exports one: the two protocols that a format fulfils."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Protocol

from torch import Tensor, nn

from .. import components
from .describe import Description

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


class Exporter(Protocol):
    """A format: register one of your own with ``@components.exporter("NAME")`` and the command knows it."""

    file: ClassVar[str]
    """Name of the file."""
    streamed: ClassVar[str | None]
    """Name of the file of a single time step; None where every file runs step by step, or none does."""
    says: ClassVar[str]
    """What the file is, for a person."""

    def make(self, network: nn.Module, about: Description, path: Path, streaming: bool) -> Runtime:
        """Write a network to a path and return what runs that file.

        Args:
            network: from :func:`~shortcut_snn.deploy.fold`.
            about: what it is.
            path: of the file.
            streaming: whether it is to be a single time step.

        Raises:
            OSError: a package that the format needs is not installed.
            ValueError: the format has no words for the network; the message says for what.
        """
        ...


components.exporter.type = Exporter


def by_steps(runtime: Runtime, images: Tensor, time_steps: int) -> Tensor:
    """Return the logits of a whole sequence from a runtime that takes it step by step."""
    state: State | None = None
    total: Tensor | None = None
    for t in range(time_steps):
        logits, state = runtime.step(images[:, t] if images.dim() == 5 else images, state)
        total = logits if total is None else total + logits
    assert total is not None
    return total / time_steps
