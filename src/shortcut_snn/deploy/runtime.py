"""The two protocols of an export format: what writes a file, and what runs it."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Protocol

from torch import Tensor, nn

from .. import components
from .spec import NetworkSpec

State = Sequence[Tensor]
"""Membrane potentials, one tensor per layer of neurons."""


class Runtime(Protocol):
    """A network that takes image bytes, or counts of events, as a data set holds them."""

    def logits(self, images: Tensor) -> Tensor:
        """Map images uint8 ``[N, C, H, W]``, or frames ``[N, T, C, H, W]``, to logits ``[N, num_classes]``."""
        ...

    def step(self, frame: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Map a frame ``[N, C, H, W]`` and the state before it to the logits of this time step and the state after it.

        Raises:
            ValueError: the file runs whole sequences only.
        """
        ...


class Exporter(Protocol):
    """A file format, registered with ``@components.exporter("NAME")``, for ``shortcut-snn export --to NAME``."""

    file: ClassVar[str]
    """Name of the file."""
    step_file: ClassVar[str | None]
    """Name of the file that runs a single time step; None if the format has none."""
    summary: ClassVar[str]
    """What the file is, in a few words."""

    def export(self, network: nn.Module, spec: NetworkSpec, path: Path, streaming: bool) -> Runtime:
        """Write a network to a file and return a runtime of that file.

        Args:
            network: from :func:`~shortcut_snn.deploy.fold`.
            spec: the network's specification.
            path: path of the file.
            streaming: whether the file runs a single time step.

        Raises:
            OSError: a package that the format needs is not installed.
            ValueError: the format cannot represent a part of the network; the message names it.
        """
        ...


components.exporter.type = Exporter


def mean_logits(runtime: Runtime, images: Tensor, time_steps: int) -> Tensor:
    """Run a sequence step by step and return the mean of the logits over time."""
    logits, state = runtime.step(images[:, 0] if images.dim() == 5 else images, None)
    total = logits
    for t in range(1, time_steps):
        logits, state = runtime.step(images[:, t] if images.dim() == 5 else images, state)
        total = total + logits
    return total / time_steps
