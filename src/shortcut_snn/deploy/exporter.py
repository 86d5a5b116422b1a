"""The base of export formats: an exporter writes a network to a file, and returns a function that runs the file."""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .spec import NetworkSpec


def require(package: str, purpose: str, extra: str = "export") -> Any:
    """Import a package of an extra."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        # A dependency of the package may be what is missing.
        if error.name and not package.startswith(error.name):
            raise
        name = package.partition(".")[0]
        raise OSError(f"{purpose} needs {name}, which is not installed: pip install 'shortcut-snn[{extra}]'") from None


Logits = Callable[[Tensor], Tensor]
"""Maps images uint8 ``[N, C, H, W]``, or frames ``[N, T, C, H, W]``, to logits ``[N, num_classes]``."""


class Exporter(ABC):
    """Base of file formats, registered with ``@components.exporter("NAME")``, for ``shortcut-snn export --to NAME``.

    A format is a dataclass; its fields are its options. The command prints the first sentence of its docstring.
    """

    @property
    @abstractmethod
    def file(self) -> str:
        """Name of the file."""

    def rounded(self, network: nn.Module, spec: NetworkSpec, example: Tensor) -> nn.Module:
        """Return a network with the rounded weights that the file holds; by default the network itself.

        Args:
            network: from :func:`~shortcut_snn.deploy.fold`.
            spec: the network's specification.
            example: real inputs, as the network takes them.
        """
        return network

    def report(self, path: Path) -> Iterable[str]:
        """Return lines to print about a written file; by default none."""
        return ()

    @abstractmethod
    def export(self, network: nn.Module, spec: NetworkSpec, path: Path) -> Logits:
        """Write a network to a file and return a function that runs that file.

        Args:
            network: from :func:`~shortcut_snn.deploy.fold` and :meth:`rounded`.
            spec: the network's specification.
            path: of the file; a temporary one, which the caller renames.

        Raises:
            OSError: a package that the format needs is not installed.
            ValueError: the format cannot represent a part of the network; the message names it.
        """


def mean_over_steps(step: Callable[[Tensor, Any], tuple[Tensor, Any]], spec: NetworkSpec) -> Logits:
    """Return the mean logits over time; ``step`` maps a frame and a state, first None, to logits and the next state."""

    def logits(images: Tensor) -> Tensor:
        state, outputs = None, []
        # A recording has a frame for each step; an image is the same in every step.
        for frame in images.unbind(1) if images.dim() == 5 else [images] * spec.time_steps:
            output, state = step(frame, state)
            outputs.append(output)
        return torch.stack(outputs).mean(0)

    return logits
