"""Comparison of recipes: nested entries by their dotted keys, and what may change when a run resumes."""

from collections.abc import Iterator, Mapping
from typing import Any

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
    """Raise an error unless a run with entries ``before`` can resume with entries ``now``.

    Args:
        before: entries of the run's recipe.
        now: entries to resume with.
        run: the run's name in messages.

    Raises:
        ValueError: an entry differs that changes the result; the message names it.

    Example:
        >>> check_resumable({"training": {"threads": 1}}, {"training": {"threads": 2}}, "the run")
    """
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
    """Yield (dotted key, value) of each leaf of nested entries.

    Args:
        entries: nested mappings.
        prefix: put before each key.
        lists: whether lists of components are flattened too, with their index as a key.

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
    keys = [key for key in dict.fromkeys([*old, *new]) if old.get(key) != new.get(key)]
    return {key: (old.get(key), new.get(key)) for key in keys}


def _batches(entries: Mapping[str, Any]) -> tuple[int, int]:
    """Return the batch size of one process, and the number of processes."""
    training = entries.get("training", {})
    return entries.get("data", {}).get("batch_size", 1), training.get("devices", 1) * training.get("nodes", 1)
