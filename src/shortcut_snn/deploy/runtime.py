"""The two protocols of an export format: an exporter writes a file, and a runtime runs it."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Protocol

import torch
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


class FileRuntime:
    """Base of runtimes of a file that takes images, or a frame and membrane potentials.

    Args:
        spec: the network's specification.
        streaming: whether the file runs a single time step.
    """

    def __init__(self, spec: NetworkSpec, streaming: bool) -> None:
        self.spec, self.streaming = spec, streaming

    def run(self, images: Tensor, state: State | None) -> Sequence[Tensor]:
        """Return what the file computes: logits, and membrane potentials if it runs a single time step."""
        raise NotImplementedError

    def logits(self, images: Tensor) -> Tensor:
        """Return logits; see :class:`Runtime`."""
        if not self.streaming:
            return self.run(images, None)[0]
        logits, state = [], None
        for t in range(self.spec.time_steps):
            step, state = self.step(images[:, t] if images.dim() == 5 else images, state)
            logits.append(step)
        return torch.stack(logits).mean(0)

    def step(self, frame: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Return the logits and membrane potentials of one step; see :class:`Runtime`."""
        if not self.streaming:
            raise ValueError("this file runs whole sequences; export it with streaming to run single steps")
        logits, *after = self.run(frame, state)
        return logits, after
