"""``shortcut-snn sweep``: search for the best entries of a recipe with Optuna; every trial is a run."""

import argparse
import inspect
import shlex
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...components import suggestion
from ...recipes.entries import said
from ...training import RunFolder
from .._launchers import add_launcher, launching
from .._output import tell
from .._parser import UsageError, at_least_one, words
from .._scheduler import Scheduler
from ..compare import changed_imports

HELP = "search for the best entries of a recipe"
DESCRIPTION = (
    "Search for the entries of a recipe that are best on validation data, with Optuna. Every trial is a run, and "
    "unpromising trials are stopped early. The same command continues a search that was interrupted."
)
RECIPE = True
SAMPLERS = {"tpe": "TPESampler", "gp": "GPSampler", "random": "RandomSampler", "qmc": "QMCSampler"}
PRUNERS = {
    "median": "MedianPruner",
    "percentile": "PercentilePruner",
    "successive_halving": "SuccessiveHalvingPruner",
    "hyperband": "HyperbandPruner",
    "threshold": "ThresholdPruner",
    "none": "NopPruner",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--out", required=True, help="folder of the search; created")
    parser.add_argument(
        "--space", required=True, metavar="FILE",
        help="YAML file of the search space: for each entry {low: 0.001, high: 0.1, log: true}, {low: 1, high: 9, "
        "step: 2} or {choices: [a, b]}",
    )  # fmt: skip
    parser.add_argument("--trials", type=int, default=40, help="trials in all, with earlier ones (default: 40)")
    parser.add_argument(
        "--sampler", default="tpe", metavar="NAME",
        help=f"Optuna's sampler, optionally with options, as in 'tpe n_startup_trials=5': {', '.join(SAMPLERS)}",
    )  # fmt: skip
    parser.add_argument(
        "--pruner", default="median", metavar="NAME",
        help=f"Optuna's pruner, as in 'median n_warmup_steps=3': {', '.join(PRUNERS)}",
    )  # fmt: skip
    add_launcher(parser)


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
    from .results import verdict, write
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
        space = read_space(Path(options.space), options.said)
    with launching(options, folder) as launcher, RunFolder(folder).locked():
        with _usage_errors():
            search = Search(folder, options.said, space, make_sampler, pruner, tell)
        try:
            search.run(options.trials, Scheduler(launcher, options.jobs, options.imports, tell))
        finally:
            if search.trials():
                write(search)
    folders = (search.folder_of(trial.number) for trial in search.trials())
    for line in changed_imports(folders, options.imported, "use a new folder to train with it"):
        tell(line)
    for line in verdict(search):
        tell(line)
    if search.best is None:
        raise ValueError(f"no trial has finished: see the logs in {folder / 'trials'}")
    tell(f"written: best.yaml, sweep.html and trials.csv in {folder}")
    command = ["shortcut-snn", "train", "--config", str(folder / "best.yaml"), "--out", str(folder / "best")]
    command += [word for name in options.imports for word in ("--import", name)]
    tell(f"train the best: {shlex.join(command)}")
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
        UsageError: the name or an option is unknown, or a value is invalid.
    """
    name, *entries = words(option, text) or [""]
    if name not in names:
        raise UsageError(f"{option}: there is no {name!r}{suggestion(name, names)}: use one of {', '.join(names)}")
    component = getattr(module, names[name])
    parameters = inspect.signature(component).parameters
    fixed = {key: value for key, value in fixed.items() if key in parameters}
    values = said(entries)
    free = [key for key in parameters if key not in fixed]
    for key in values:
        if key in fixed:
            raise UsageError(f"{option}: {key} is the recipe's: use --training.{key} {values[key]}")
        if key not in free:
            raise UsageError(f"{option}: {name} has no option {key!r}{suggestion(key, free)}: use {', '.join(free)}")
    try:
        return component(**fixed, **values)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{option} {text}: {error}") from None
