"""Whether a folder's run may be started or resumed with a recipe, and from which checkpoint."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from . import recipe_io
from .checkpoint import read_checkpoint
from .methods import resolved
from .recipe import Recipe

CHECKPOINT, RECIPE, RESULT = "checkpoint.ckpt", "recipe.yaml", "result.json"
# Where a run happens, on which what it computes depends in the last bits alone, and what it does when numbers go wrong:
# a run that was stopped for these may go on.
_MAY_CHANGE = {
    "train.accelerator",
    "train.devices",
    "train.nodes",
    "train.strategy",
    "train.threads",
    "train.keep_freed_memory",
    "train.checkpoint_every",
    "train.non_finite",
    "train.silent_layers",
    "data.workers",
    "data.batch_size",
}


def find_checkpoint(recipe: Recipe, folder: Path, resume: bool) -> Path | None:
    """Return the checkpoint to go on from, None to start anew.

    Raises:
        FileExistsError: the folder holds a run already and ``resume`` is false, or something else.
        ValueError: the run there is another one, or its checkpoint is damaged.
    """
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file; name a folder for the run")
    before, path = folder / RECIPE, folder / CHECKPOINT
    if not before.is_file():
        if folder.is_dir() and any(folder.iterdir()) and not resume:
            raise FileExistsError(f"{folder} is not empty and holds no run; name another folder")
        return None
    if not path.is_file() and not (folder / RESULT).is_file():
        # It failed before its first checkpoint: there is nothing to lose, and its recipe may be at fault.
        return None
    if not resume:
        raise FileExistsError(f"{folder} holds a run already; add --resume to go on with it, or name another folder")
    check_recipe(recipe, folder)
    if not path.is_file():
        return None
    read_checkpoint(path)
    return path


def check_recipe(recipe: Recipe, folder: Path) -> None:
    """Refuse a recipe that is not, but for where it runs, that of a folder's run.

    Raises:
        ValueError: the message names what differs.
    """
    before, now = resolved(recipe_io.read(folder / RECIPE)), resolved(recipe)
    olds, news = dict(_entries(before.to_dict())), dict(_entries(now.to_dict()))
    changed = [key for key in sorted(olds.keys() | news.keys()) if olds.get(key) != news.get(key)]
    if not changed:
        return
    other = [key for key in changed if key not in _MAY_CHANGE]
    if other:
        differences = ", ".join(f"{key} was {olds.get(key)} and is {news.get(key)}" for key in other[:3])
        raise ValueError(
            f"the run in {folder} has another recipe ({differences}); resume with {folder / RECIPE} or name another "
            "folder"
        )
    was, now_is = _images_in_a_step(before), _images_in_a_step(now)
    if was != now_is:
        raise ValueError(
            f"the run in {folder} takes {was} images in a step over all processes, and this would take {now_is}; "
            f"choose data.batch_size so that data.batch_size * train.devices * train.nodes is {was}"
        )
    if before.data.batch_size != now.data.batch_size and not now.train.sync_batchnorm:
        raise ValueError(
            f"the run in {folder} normalises over {before.data.batch_size} images of each process, and with "
            f"{now.data.batch_size} it would be another one; only a run with train.sync_batchnorm=true can change the "
            "number of its processes"
        )


def _images_in_a_step(recipe: Recipe) -> int:
    return recipe.data.batch_size * recipe.train.devices * recipe.train.nodes


def _entries(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _entries(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
