"""Provenance of a run: its recipe, imports, versions and machine; and which entries may change when a run resumes."""

import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import is_dataclass
from datetime import datetime
from importlib import metadata
from typing import Any

import torch

from .. import __version__
from ..components.entries import write
from ..method import Method


def task_entries(task: Any) -> dict[str, Any]:
    """Return what takes the place of a recipe for a task that was built in Python."""
    method = task.method
    return {
        "task": f"{type(task).__module__}.{type(task).__qualname__}",
        "network": type(task.model.network).__qualname__,
        "method": {
            "objective": _describe(method.objective),
            "branch_weight": _describe(method.branch_weight),
            "by": "step" if method.branches is None else method.branches.by,
            "taps": list(task.model.taps.names),
            "penalty": None if method.penalty is None else _describe(method.penalty),
            "weight_bits": method.weight_bits,
            # A default is None, as it is in the folders of runs that do not hold these entries.
            "gradient": None if method.gradient == Method().gradient else _describe(method.gradient),
            "initialise": method.initialise or None,
        },
        "label_smoothing": getattr(task, "label_smoothing", None) or None,
        "optimizer": write(task.optimizer_options),
        "lr_schedule": write(task.lr_schedule),
        "training": write(task.training_options),
    }


def _describe(part: Any) -> Any:
    """Return the entries of a component, or the name of any other object, which is the same in every process."""
    return write(part) if is_dataclass(part) else getattr(part, "__qualname__", type(part).__qualname__)


def environment(imports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return versions, machine, command and time, the commit of the current folder, and what was imported."""
    commit, versions = None, {}
    # rev-parse runs no hook or filter that a repository may have configured.
    with suppress(OSError, subprocess.SubprocessError):
        git = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=True)
        commit = git.stdout.strip() or None
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
        "commit": commit,
        "date": datetime.now().isoformat(timespec="seconds"),
    }


# These decide where a run happens and what it logs, so a run may resume with others.
MAY_CHANGE_ON_RESUME = {
    "training.accelerator",
    "training.devices",
    "training.nodes",
    "training.strategy",
    "training.threads",
    "training.keep_freed_memory",
    "training.checkpoint_every",
    "data.workers",
    "data.batch_size",
    "loggers",
}


def check_resumable(before: Mapping[str, Any], now: Mapping[str, Any], run: str) -> None:
    """Raise an error unless a run with entries ``before`` can resume with entries ``now``."""
    different = {k: pair for k, pair in recipe_differences(before, now).items() if k not in MAY_CHANGE_ON_RESUME}
    if different:
        listed = ", ".join(f"{key} was {old} and is {new}" for key, (old, new) in list(different.items())[:3])
        raise ValueError(f"{run} has another recipe ({listed}); resume it with its own recipe or name another folder")
    (size, processes), (new_size, new_processes) = _batches(before), _batches(now)
    if size * processes != new_size * new_processes:
        raise ValueError(
            f"{run} uses {size * processes} samples per step, now {new_size * new_processes}; keep data.batch_size * "
            f"training.devices * training.nodes at {size * processes}"
        )
    if size != new_size and not now.get("training", {}).get("sync_batchnorm"):
        raise ValueError(
            f"{run} normalises over batches of {size} and would now normalise over {new_size}; the number of "
            "processes can change only with training.sync_batchnorm=true"
        )


def flatten_entries(entries: Mapping[str, Any], prefix: str = "", lists: bool = False) -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) of each leaf of nested entries, on demand also of lists of components.

    Example:
        >>> list(flatten_entries({"data": {"seed": 0}, "loggers": [{"kind": "csv"}]}, lists=True))
        [('data.seed', 0), ('loggers.0.kind', 'csv')]
    """
    for key, value in entries.items():
        if lists and isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
            value = dict(enumerate(value))
        if isinstance(value, Mapping) and value:
            yield from flatten_entries(value, f"{prefix}{key}.", lists)
        else:
            yield f"{prefix}{key}", value


def recipe_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the entries that differ, as {dotted key: (before, now)}; a missing entry counts as None."""
    old, new = dict(flatten_entries(before)), dict(flatten_entries(now))
    return {key: (old.get(key), new.get(key)) for key in old | new if old.get(key) != new.get(key)}


def _batches(entries: Mapping[str, Any]) -> tuple[int, int]:
    """Return the batch size of one process, and the number of processes."""
    training = entries.get("training", {})
    return entries.get("data", {}).get("batch_size", 1), training.get("devices", 1) * training.get("nodes", 1)
