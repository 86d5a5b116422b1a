"""``shortcut-snn sweep``: search for the best entries of a recipe with Optuna; every trial is a run."""

import argparse
import shlex
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...components import suggestion
from ...recipes import parse_options
from ...training import RunFolder
from .._launchers import launching
from .._output import print_line
from .._parser import UsageError, at_least_one, words
from .._scheduler import Scheduler
from ..compare import changed_imports

SAMPLERS = {"tpe": "TPESampler", "gp": "GPSampler", "random": "RandomSampler", "qmc": "QMCSampler"}
PRUNERS = {
    "median": "MedianPruner",
    "percentile": "PercentilePruner",
    "successive_halving": "SuccessiveHalvingPruner",
    "hyperband": "HyperbandPruner",
    "threshold": "ThresholdPruner",
    "none": "NopPruner",
}


def run(options: argparse.Namespace) -> int:
    """Search; print the best trial and the command that trains it."""
    try:
        import optuna
    except ModuleNotFoundError:
        raise UsageError("a search needs Optuna: pip install 'shortcut-snn[sweep]'") from None
    at_least_one(options, "trials")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return _search(options, optuna)


def _search(options: argparse.Namespace, optuna: Any) -> int:
    from .results import write
    from .search import Search
    from .space import read_space

    seed, folder = options.recipe.training.seed, Path(options.out)

    def make_sampler(number: int) -> Any:
        # All trials share one quasi-random sequence; other samplers draw each trial with a seed of its own.
        name = options.sampler.split()[:1]
        return _component(
            "--sampler", options.sampler, SAMPLERS, optuna.samplers, seed=seed + (0 if name == ["qmc"] else number)
        )

    make_sampler(0)
    pruner = _component("--pruner", options.pruner, PRUNERS, optuna.pruners)
    with _usage_errors():
        space = read_space(Path(options.space), options.overrides)
    with launching(options, folder) as launcher, RunFolder(folder).locked():
        with _usage_errors():
            search = Search(folder, options.overrides, space, make_sampler, pruner, print_line)
        try:
            search.run(options.trials, Scheduler(launcher, options.jobs, options.imports, print_line))
        finally:
            sentences = write(search) if search.trials() else []
    folders = (search.folder_of(trial.number) for trial in search.trials())
    for line in changed_imports(folders, options.imported, "use a new folder to train with it"):
        print_line(line)
    for sentence in sentences:
        print_line(sentence)
    if search.best is None:
        raise ValueError(f"no trial has finished: see the logs in {folder / 'trials'}")
    print_line(f"written: best.yaml, sweep.html and trials.csv in {folder}")
    command = ["shortcut-snn", "train", "--config", str(folder / "best.yaml"), "--out", str(folder / "best")]
    command += [word for name in options.imports for word in ("--import", name)]
    print_line(f"train the best: {shlex.join(command)}")
    return 0


@contextmanager
def _usage_errors() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise UsageError(str(error)) from None


def _component(option: str, text: str, names: Mapping[str, str], module: Any, **fixed: Any) -> Any:
    """Return one of Optuna's samplers or pruners from text such as ``"tpe n_startup_trials=5"``.

    Raises:
        UsageError: the name is unknown, or Optuna refuses an option.
    """
    name, *entries = words(option, text) or [""]
    if name not in names:
        raise UsageError(f"{option} {name}{suggestion(name, names)}: use one of {', '.join(names)}")
    try:
        return getattr(module, names[name])(**fixed, **parse_options(entries))
    except (ValueError, TypeError) as error:
        raise UsageError(f"{option} {text}: {error}") from None
