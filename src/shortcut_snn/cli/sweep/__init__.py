"""``shortcut-snn sweep``: a search for entries of a recipe on validation data, by Optuna; each trial is a run."""

import argparse
import inspect
import math
import shlex
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...components import suggestion
from ...recipes.entries import said
from ...training import RunFolder
from .._changed import changed_since
from .._launchers import add_launcher, launching
from .._parser import UsageError, at_least_one, words
from .page import write
from .search import Search
from .space import read_space

HELP = "search for the best entries of a recipe"
DESCRIPTION = (
    "Search for the entries of a recipe that are best on validation data, with Optuna. Every trial is a run; trials "
    "that are no good are stopped early. A search that was stopped or killed goes on when the same command is given "
    "again."
)
RECIPE = True
SAMPLERS = {
    "tpe": "TPESampler",
    "gp": "GPSampler",
    "random": "RandomSampler",
    "qmc": "QMCSampler",
    "brute_force": "BruteForceSampler",
}
PRUNERS = {
    "median": "MedianPruner",
    "percentile": "PercentilePruner",
    "successive_halving": "SuccessiveHalvingPruner",
    "hyperband": "HyperbandPruner",
    "threshold": "ThresholdPruner",
    "none": "NopPruner",
}


def component(option: str, text: str, known: Mapping[str, str], module: Any, **given: Any) -> Any:
    """Make one of Optuna's samplers or pruners of what a person says, as in ``"tpe n_startup_trials=5"``.

    Raises:
        UsageError: there is none, or it takes no such option.
    """
    name, *own = words(option, text) or [""]
    if name not in known:
        raise UsageError(f"{option}: no {name!r}{suggestion(name, known)}: one of {', '.join(known)}")
    made = getattr(module, known[name])
    takes = inspect.signature(made).parameters
    options = said(own)
    for key in options:
        if key in given:
            raise UsageError(f"{option}: {key} of {name} is the recipe's: say --training.{key} {options[key]}")
        if key not in takes:
            free = [each for each in takes if each not in given]
            raise UsageError(f"{option}: {name} takes no {key!r}{suggestion(key, free)}; it takes {', '.join(free)}")
        # Optuna itself sees what is no number in the midst of the search.
        usual = type(takes[key].default)
        if usual in (bool, int, float) and type(options[key]) not in {usual, int if usual is float else usual}:
            raise UsageError(f"{option}: {key} of {name} is {usual.__name__}, got {options[key]!r}")
    try:
        return made(**{key: value for key, value in given.items() if key in takes}, **options)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{option} {text}: {error}") from None


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--out", required=True, help="folder of the search; created")
    parser.add_argument(
        "--space", required=True, metavar="FILE",
        help="YAML file of what to search for: by entry {low: 0.001, high: 0.1, log: true}, {low: 1, high: 9, step: 2} "
        "or {choices: [a, b]}",
    )  # fmt: skip
    parser.add_argument("--trials", type=int, default=40, help="how many, those of earlier commands included")
    parser.add_argument(
        "--sampler", default="tpe", metavar="NAME",
        help=f"of Optuna, perhaps with options, as in 'tpe n_startup_trials=5': {', '.join(SAMPLERS)}",
    )  # fmt: skip
    parser.add_argument(
        "--pruner", default="median", metavar="NAME",
        help=f"of Optuna, as in 'median n_warmup_steps=3': {', '.join(PRUNERS)}",
    )  # fmt: skip
    add_launcher(parser)


def run(options: argparse.Namespace) -> int:
    """Search, and print what was best and how to train it."""
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
    seed = options.recipe.training.seed
    # A quasi-random sequence is one for all trials.
    moves = words("--sampler", options.sampler)[:1] != ["qmc"]

    def sampler(number: int) -> Any:
        return component("--sampler", options.sampler, SAMPLERS, optuna.samplers, seed=seed + moves * number)

    grid = isinstance(sampler(0), optuna.samplers.BruteForceSampler)
    pruner = component("--pruner", options.pruner, PRUNERS, optuna.pruners)
    folder = Path(options.out)
    try:
        space = read_space(Path(options.space), options.said)
    except ValueError as error:
        raise UsageError(str(error)) from None
    for each in space if grid else ():
        if not math.isfinite(each.size):
            raise UsageError(f"{options.space}: {each.key}: brute_force tries all values: give a step, or choices")
    with launching(options, folder) as launcher, RunFolder(folder).locked():
        try:
            search = Search(folder, options.said, space, sampler, pruner, options.imports)
        except ValueError as error:
            raise UsageError(str(error)) from None
        verdict: Sequence[str] = ()
        try:
            search.run(options.trials, options.jobs, launcher)
        finally:
            if search.trials():
                verdict = write(search)
    places = (search.place(trial.number) for trial in search.study.trials)
    again = "search anew in another folder"
    lines = changed_since(places, options.imported, again)
    if lost := [str(each.number) for each in search.trials("COMPLETE") if not search.place(each.number).path.is_dir()]:
        lines.append(f"values stand of trials whose folders are gone ({', '.join(lost)}): to train again, {again}")
    print("\n" + "\n".join([*lines, *verdict]))
    if search.best is None:
        raise ValueError(f"no trial has finished: the logs are in {folder / 'trials'}")
    print(f"written: best.yaml, sweep.html and trials.csv in {folder}")
    command = ["shortcut-snn", "train", "--config", str(folder / "best.yaml"), "--out", str(folder / "best")]
    command += [word for name in options.imports for word in ("--import", name)]
    print(f"train the best: {shlex.join(command)}")
    return 0
