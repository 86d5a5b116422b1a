"""``shortcut-snn sweep``: search for the best entries of a recipe with Optuna; every trial is a run."""

import argparse
import shlex
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...training import RunFolder
from .._executors import make_executor
from .._run_pool import RunPool, changed_imports
from .._terminal import at_least_one, print_line


def run(options: argparse.Namespace) -> int:
    """Search; print the best trial and the command that trains it."""
    at_least_one(options, "trials")
    with searching() as optuna:
        return _search(options, optuna)


@contextmanager
def searching() -> Iterator[Any]:
    """Give Optuna, without its messages."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield optuna


def _search(options: argparse.Namespace, optuna: Any) -> int:
    from .results import write
    from .search import Search
    from .space import read_space

    seed, folder = options.recipe.training.seed, Path(options.out)
    sampler = {
        "tpe": optuna.samplers.TPESampler,
        "gp": optuna.samplers.GPSampler,
        "random": optuna.samplers.RandomSampler,
    }[options.sampler]
    pruner = {
        "median": optuna.pruners.MedianPruner,
        "hyperband": optuna.pruners.HyperbandPruner,
        "none": optuna.pruners.NopPruner,
    }[options.pruner]
    space = read_space(Path(options.space), options.overrides)
    pool = RunPool(make_executor(options, folder), options.jobs, options.imports, print_line)
    with RunFolder(folder).locked():
        search = Search(
            folder, options.overrides, space, lambda number: sampler(seed=seed + number), pruner(), print_line
        )
        with search.storage_errors():
            try:
                search.run(options.trials, pool)
            finally:
                sentences = write(search) if search.trials() else []
    folders = (search.folder_of(trial.number) for trial in search.trials())
    for line in [*changed_imports(folders, options.imported, "use a new folder to train with it"), *sentences]:
        print_line(line)
    if search.best is None:
        raise ValueError(f"no trial has finished: see the logs in {folder / 'trials'}")
    print_line(f"written: best.yaml, sweep.html and trials.csv in {folder}")
    command = ["shortcut-snn", "train", "--config", str(folder / "best.yaml"), "--out", str(folder / "best")]
    command += [word for name in options.imports for word in ("--import", name)]
    print_line(f"train the best: {shlex.join(command)}")
    return 0
