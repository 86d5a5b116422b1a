"""Provenance of a run: its recipe, what was imported, and the versions and machine it ran on."""

import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, is_dataclass
from datetime import datetime
from importlib import metadata
from typing import Any

import torch

from .. import __version__
from ..components import write


@dataclass(frozen=True)
class Provenance:
    """The origin of a run, as its folder and its network files record it.

    Args:
        entries: the recipe, as nested mappings; a resumed run must have the same.
        network: metadata of the network files, enough to build the network again.
        imports: one row for each imported file or package: ``name``, and ``sha256`` or ``version``.
    """

    entries: Mapping[str, Any]
    network: Mapping[str, Any] = field(default_factory=dict)
    imports: Sequence[Mapping[str, Any]] = ()


def provenance_of(task: Any) -> Provenance:
    """Return the provenance of a task that was built in Python, without a recipe."""
    return Provenance(
        {
            "task": f"{type(task).__module__}.{type(task).__qualname__}",
            "network": type(task.model.network).__qualname__,
            "method": {
                "objective": _describe(task.objective),
                "branch_weight": _describe(task.branch_weight),
                "by_epoch": task.by_epoch,
                "taps": list(task.model.taps.names),
                "penalty": None if task.penalty is None else _describe(task.penalty),
            },
            "optimizer": write(task.optimizer_options),
            "lr_schedule": write(task.lr_schedule),
            "training": write(task.training_options),
        }
    )


def _describe(part: Any) -> Any:
    """Return the entries of a component, or the name of any other object, which is the same in every process."""
    return write(part) if is_dataclass(part) else getattr(part, "__qualname__", type(part).__qualname__)


def environment(imports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return versions, machine, command and time, and what was imported."""
    versions = {}
    for name in ("torch", "torchvision", "lightning", "numpy", "numba", "triton"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "shortcut_snn": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "versions": versions,
        "imports": list(imports),
        "command": sys.argv,
        "commit": git_commit(),
        "date": datetime.now().isoformat(timespec="seconds"),
    }


def git_commit() -> str | None:
    """Return the commit of the current folder's git repository, None outside a repository."""
    # rev-parse runs no hook or filter that a repository may have configured.
    with suppress(OSError, subprocess.SubprocessError):
        git = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5)
        return git.stdout.strip() or None if git.returncode == 0 else None
    return None
