"""Whether one recipe makes the same run as another: entries by their dotted keys, and what of them may change."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

# Where a run happens, on which what it computes depends in the last bits alone, and what it does when numbers go wrong:
# a run that was stopped for these may go on.
MAY_CHANGE_ON_RESUME = {
    "training.accelerator",
    "training.devices",
    "training.nodes",
    "training.strategy",
    "training.threads",
    "training.keep_freed_memory",
    "training.checkpoint_every",
    "training.non_finite",
    "training.silent_layers",
    "data.workers",
    "data.batch_size",
    "loggers",
}


def check_same(before: Mapping[str, Any], now: Mapping[str, Any], run: str, recipe: Path) -> None:
    """Refuse a recipe that is not, but for where it runs, that of a run.

    Args:
        before: entries of the run.
        now: entries with which it shall go on.
        run: what a message calls it.
        recipe: the file of its entries.

    Raises:
        ValueError: the message names what differs.

    Example:
        >>> check_same({"training": {"threads": 1}}, {"training": {"threads": 2}}, "the run", Path("recipe.yaml"))
    """
    other = {key: pair for key, pair in recipe_differences(before, now).items() if key not in MAY_CHANGE_ON_RESUME}
    if other:
        said = ", ".join(f"{key} was {was} and is {changed}" for key, (was, changed) in list(other.items())[:3])
        raise ValueError(f"{run} has another recipe ({said}); resume with {recipe} or name another folder")
    (size, processes), (new_size, new_processes) = _batch(before), _batch(now)
    if size * processes != new_size * new_processes:
        raise ValueError(
            f"{run} takes {size * processes} images in a step over all processes, and this would take "
            f"{new_size * new_processes}; choose data.batch_size so that data.batch_size * training.devices * "
            f"training.nodes is {size * processes}"
        )
    if size != new_size and not now.get("training", {}).get("sync_batchnorm"):
        raise ValueError(
            f"{run} normalises over {size} images of each process, and with {new_size} it would be "
            "another one; only a run with training.sync_batchnorm=true can change the number of its processes"
        )


def flatten_entries(entries: Mapping[str, Any], prefix: str = "", lists: bool = False) -> Iterator[tuple[str, Any]]:
    """Yield each entry of nested ones by its dotted key; with ``lists`` those of components in a list too.

    Example:
        >>> list(flatten_entries({"data": {"seed": 0}, "loggers": [{"kind": "csv"}]}, lists=True))
        [('data.seed', 0), ('loggers.0.kind', 'csv')]
    """
    for key, value in entries.items():
        if lists and isinstance(value, list) and any(isinstance(each, dict | list) for each in value):
            value = dict(enumerate(value))
        if isinstance(value, Mapping) and value:
            yield from flatten_entries(value, f"{prefix}{key}.", lists)
        else:
            yield f"{prefix}{key}", value


def recipe_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the entries in which two sets of nested ones differ, by dotted key: before and now."""
    olds, news = dict(flatten_entries(before)), dict(flatten_entries(now))
    keys = [key for key in dict.fromkeys([*olds, *news]) if olds.get(key) != news.get(key)]
    return {key: (olds.get(key), news.get(key)) for key in keys}


def _batch(entries: Mapping[str, Any]) -> tuple[int, int]:
    """Images in a batch of a process, and processes."""
    training = entries.get("training", {})
    return entries.get("data", {}).get("batch_size", 1), training.get("devices", 1) * training.get("nodes", 1)
