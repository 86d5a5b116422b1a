"""``shortcut-snn sweep``: a search for entries of a recipe on validation data, by Optuna; each trial is a run."""

import argparse
import csv
import inspect
import io
import json
import math
import re
import shlex
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup

from ..components import suggestion
from ..files import read_json, write_csv, write_text
from ..recipes.entries import Entries, from_dict, merged, parse, said, write_recipe
from ..runs import RunFolder
from ..runs.folder import differences
from ..runs.tables import Metric, show
from ._children import Children, Stopped
from ._launchers import Launcher, add_launcher, launching, train
from ._main import STOPPED, UsageError
from .compare import held_out
from .report.html import Page, Section, Table, render
from .report.reading import texts

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
WORDS = ("low", "high", "log", "step", "choices")
# With another of these a trial would be judged on other data, or by luck.
FIXED = ("training.seed", "data.seed", "data.validation")
HOPELESS = 3
"""So many trials that fail, before any that does not, end a search."""


@dataclass(frozen=True)
class Dimension:
    """An entry that is searched for: one of ``choices``, as JSON, or a number from ``low`` to ``high``."""

    key: str
    choices: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    log: bool = False
    whole: bool = False

    def suggest(self, trial: Any) -> Any:
        """Return a trial's value, drawn if it has none yet."""
        if self.choices:
            return json.loads(trial.suggest_categorical(self.key, self.choices))
        if self.whole:
            return trial.suggest_int(self.key, int(self.low), int(self.high), step=int(self.step or 1), log=self.log)
        return trial.suggest_float(self.key, self.low, self.high, step=self.step, log=self.log)

    @property
    def ends(self) -> list[Any]:
        """The values that a recipe has to take, for it to take all."""
        return [json.loads(each) for each in self.choices] if self.choices else [self.low, self.high]

    def is_end(self, value: Any) -> bool:
        """Say whether a number is within a twentieth of an end of its range."""
        if self.choices:
            return False
        low, high, at = (math.log(x) if self.log else float(x) for x in (self.low, self.high, value))
        return not 0.05 < (at - low) / (high - low) < 0.95


def read_space(path: Path, entries: Mapping[str, Any]) -> tuple[Dimension, ...]:
    """Read a file that says what to search for, as ``optimizer.lr: {low: 0.001, high: 0.1, log: true}``.

    Args:
        path: of the file.
        entries: the recipe's.

    Raises:
        ValueError: something that there is not, or that the recipe does not take; the message names it.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "space.yaml"
        >>> _ = path.write_text("network.width: {low: 4, high: 16, log: true}")
        >>> read_space(path, {"network": "resnet20"})[0].whole
        True
    """
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    try:
        found = parse(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is {error}") from None
    if not isinstance(found, dict) or not found:
        raise ValueError(f"{path} is no space: write lines like 'optimizer.lr: {{low: 0.001, high: 0.1, log: true}}'")
    dimensions = []
    for key, spec in found.items():
        try:
            dimensions.append(_dimension(str(key), spec))
        except ValueError as error:
            raise ValueError(f"{path}: {key}: {error}") from None
    start = {each.key: each.ends[0] for each in dimensions}

    def refusal(changes: Mapping[str, Any]) -> str:
        try:
            from_dict(at(entries, start | dict(changes)))
        except ValueError as error:
            return str(error)
        return ""

    for place, each in enumerate(dimensions):
        for value in each.ends:
            if refused := refusal({each.key: value}):
                raise ValueError(f"{path}: {refused if each.key in refused else f'{each.key}: {refused}'}")
        if not each.choices and all(isinstance(x, int) for x in (each.low, each.high, each.step or 1)):
            # Whole numbers are also how people write 1.0: what the entry takes decides.
            whole = bool(refusal({each.key: each.low + (each.high - each.low) / math.pi}))
            dimensions[place] = Dimension(**asdict(each) | {"whole": whole})
    return tuple(dimensions)


def _dimension(key: str, spec: Any) -> Dimension:
    if key in FIXED:
        raise ValueError("it decides what trials are judged by, and is the same for all")
    if not isinstance(spec, dict):
        raise ValueError("write {low: 0.001, high: 0.1, log: true} or {choices: [8, 16]}")
    for word in spec:
        if word not in WORDS:
            raise ValueError(f"there is no {word!r}{suggestion(word, WORDS)}: it takes {', '.join(WORDS)}")
    if "choices" in spec:
        if len(spec) > 1:
            raise ValueError("choices stand alone, without " + ", ".join(word for word in spec if word != "choices"))
        if not isinstance(spec["choices"], list) or not spec["choices"]:
            raise ValueError(f"choices is a list, as in [8, 16], got {spec['choices']!r}")
        return Dimension(key, tuple(dict.fromkeys(json.dumps(each) for each in spec["choices"])))
    low, high, step, log = (spec.get(word, 0) for word in ("low", "high", "step", "log"))
    for word, value in (("low", low), ("high", high), *([("step", step)] if "step" in spec else [])):
        if word not in spec:
            raise ValueError(f"{word} is missing: write {{low: 0.001, high: 0.1}} or {{choices: [8, 16]}}")
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise ValueError(f"{word} is a number, got {value!r}")
    if "log" in spec and not isinstance(log, bool):
        raise ValueError(f"log is true or false, got {log!r}")
    if not low < high:
        raise ValueError(f"low is below high, got {low} and {high}")
    if log and low <= 0:
        raise ValueError(f"with log: true low is above 0, got {low}")
    if "step" in spec and (log or not 0 < step <= high - low):
        raise ValueError("step is for a range without log, above 0 and at most high - low")
    return Dimension(key, (), low, high, spec.get("step"), bool(log))


def at(entries: Mapping[str, Any], point: Mapping[str, Any]) -> Entries:
    """Return entries with those of a point, by dotted key, laid over them."""
    layers = []
    for key, value in point.items():
        for part in reversed(key.split(".")):
            value = {part: value}
        layers.append(value)
    return merged(entries, *layers)


def component(option: str, text: str, known: Mapping[str, str], module: Any, **given: Any) -> Any:
    """Make one of Optuna's samplers or pruners of what a person says, as in ``"tpe n_startup_trials=5"``.

    Raises:
        UsageError: there is none, or it takes no such option.
    """
    name, *words = shlex.split(text) or [""]
    if name not in known:
        raise UsageError(f"{option}: no {name!r}{suggestion(name, known)}: one of {', '.join(known)}")
    made = getattr(module, known[name])
    takes = inspect.signature(made).parameters
    options = said(words)
    for key in options:
        if key not in takes:
            raise UsageError(f"{option}: {name} takes no {key!r}{suggestion(key, takes)}; it takes {', '.join(takes)}")
    try:
        return made(**{key: value for key, value in given.items() if key in takes} | options)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{option} {text}: {error}") from None


class Search:
    """A search in a folder: Optuna's study, and the runs of its trials.

    Args:
        folder: where it is; created.
        entries: of the recipe.
        space: what is searched for.
        sampler: makes the sampler of a trial of its number, so that a search that goes on draws what it would have.
        pruner: one of Optuna's.
        imports: files and modules that every run imports.
        tell: takes a line as each trial ends.

    Raises:
        ValueError: the folder holds another search, or something else; the recipe holds out no validation data.
    """

    def __init__(
        self,
        folder: Path,
        entries: Mapping[str, Any],
        space: Sequence[Dimension],
        sampler: Callable[[int], Any],
        pruner: Any,
        imports: Sequence[str] = (),
        tell: Callable[[str], None] = print,
    ) -> None:
        import optuna
        from sqlalchemy.exc import SQLAlchemyError

        self.folder, self.entries, self.space, self.sampler = folder, entries, space, sampler
        self.imports, self.tell, self.optuna = imports, tell, optuna
        self.lock = threading.Lock()
        self.failed = 0
        self.reason = ""
        recipe = from_dict(at(entries, {each.key: each.ends[0] for each in space}))
        known = json.loads(json.dumps({"recipe": recipe.to_dict(), "space": {d.key: asdict(d) for d in space}}))
        about = read_json(folder / "sweep.json")
        if not about:
            if folder.is_dir() and any(each.name != "jobs" for each in folder.iterdir()):
                raise FileExistsError(f"{folder} is not empty and holds no search; name another folder")
            about = known | held_out(recipe)
            write_text(folder / "sweep.json", json.dumps(about, indent=2) + "\n")
        changed = differences({key: about.get(key) for key in known}, known)
        if changed:
            key, (was, now) = next(iter(changed.items()))
            raise ValueError(f"{folder} holds another search ({key} was {was} and is {now}); name another folder")
        self.about, self.metric = about, Metric.of(about)
        try:
            self.study = optuna.create_study(
                study_name="sweep",
                storage=optuna.storages.RDBStorage(f"sqlite:///{(folder / 'study.db').absolute()}"),
                sampler=sampler(0),
                pruner=pruner,
                direction="maximize" if self.metric.higher_is_better else "minimize",
                load_if_exists=True,
            )
            unfinished = self.trials("RUNNING")
        except (SQLAlchemyError, RuntimeError, AssertionError) as error:
            raise ValueError(f"{folder / 'study.db'} is damaged: {' '.join(str(error).split())[:200]}") from None
        self.waiting = [optuna.trial.Trial(self.study, each._trial_id) for each in unfinished]

    def trials(self, *states: str) -> list[Any]:
        """Return what Optuna knows of the trials in some states, or all."""
        found = [getattr(self.optuna.trial.TrialState, state) for state in states]
        known: list[Any] = self.study.get_trials(deepcopy=False, states=tuple(found) or None)
        return known

    def place(self, number: int) -> RunFolder:
        """Return the folder of a trial's run."""
        return RunFolder(self.folder / "trials" / f"{number:04d}")

    def run(self, count: int, jobs: int, launcher: Launcher) -> None:
        """Go on until there are so many trials.

        Raises:
            ValueError: the first trials all failed.
        """
        done = len(self.trials())
        self.tell(f"{max(done, count)} trials in {self.folder}" + (f", {done} of them begun before" if done else ""))
        children = Children(self.tell)

        def work(_: int) -> None:
            while (trial := self._next(count)) is not None:
                try:
                    self._try(trial, children, launcher)
                except Stopped:
                    self.tell(f"stopped trial {trial.number}; {STOPPED}")
                    return

        with ThreadPoolExecutor(jobs) as pool, children.block():
            list(pool.map(work, range(jobs)))
        if self._hopeless():
            raise ValueError(f"the first {self.failed} trials failed, the last with: {self.reason}")

    def _hopeless(self) -> bool:
        return self.failed >= HOPELESS and not self.trials("COMPLETE", "PRUNED")

    def _next(self, count: int) -> Any:
        with self.lock:
            if self.waiting:
                return self.waiting.pop(0)
            number = len(self.trials())
            if number >= count or self._hopeless():
                return None
            self.study.sampler = self.sampler(number)
            trial = self.study.ask()
            for each in self.space:
                each.suggest(trial)
            return trial

    def _try(self, trial: Any, children: Children, launcher: Launcher) -> None:
        states = self.optuna.trial.TrialState
        place, shown = self.place(trial.number), f"trial {trial.number}"
        state, value, said = states.FAIL, None, ""
        with self.lock:
            # What was killed while it was drawn is drawn now.
            point = {each.key: each.suggest(trial) for each in self.space}
            reported = set(self.study.trials[trial.number].intermediate_values)
        pruned = False

        def enough() -> bool:
            nonlocal pruned
            epochs = self._report(trial, place, reported)
            with self.lock:
                pruned = 0 < epochs < recipe.training.epochs and trial.should_prune()
            return pruned

        try:
            recipe = from_dict(at(self.entries, point))
            if place.is_finished:
                place.check_same(recipe.to_dict())
            else:
                train(children, launcher, recipe, place, self.imports, enough, self.tell)
            self._report(trial, place, reported)
            value = float((place.read_result()["validation_last"] or {}).get(self.metric.name, math.nan))
            if not math.isfinite(value):
                raise ValueError(f"validation {self.metric.words} is {value} after the last epoch")
            state, said = states.COMPLETE, f"{self.metric.name} {self.metric.show(value)}"
        except Stopped:
            if not pruned:
                raise
            state, said = states.PRUNED, f"stopped after {len(reported)} epochs, for others were better by then"
        except (ValueError, OSError) as error:
            self.reason, value = str(error), None
            shown, said = f"FAILED {shown}", f"{error} (log: {place}.log)"
        with self.lock:
            self.failed += state == states.FAIL
            self.study.tell(trial, value, state)
        self.tell(f"{shown}: {said} ({point_text(point)})")

    def _report(self, trial: Any, place: RunFolder, reported: set[int]) -> int:
        """Hand on what is new of validation after each epoch; return how many epochs there are."""
        try:
            with place.table("metrics").open(encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
        except FileNotFoundError:
            return 0
        with self.lock:
            for epoch, row in enumerate(rows, 1):
                if epoch not in reported:
                    trial.report(float(row.get(f"validation_{self.metric.name}") or math.nan), epoch)
                    reported.add(epoch)
        return len(rows)

    # What came of it.

    @property
    def best(self) -> Any:
        """The best trial, None where none has finished."""
        return self.study.best_trial if self.trials("COMPLETE") else None

    def point(self, trial: Any) -> dict[str, Any]:
        """Return a trial's values by key."""
        return {
            each.key: json.loads(trial.params[each.key]) if each.choices else trial.params[each.key]
            for each in self.space
            if each.key in trial.params
        }

    def importances(self) -> dict[str, float]:
        """Return which share of the metric's variance each entry explains (fANOVA), of trials that finished."""
        if len(self.trials("COMPLETE")) < 4:
            return {}
        try:
            return dict(
                self.optuna.importance.get_param_importances(self.study, evaluator=self._importance_evaluator())
            )
        except (ValueError, RuntimeError):
            # All are the same.
            return {}

    def _importance_evaluator(self) -> Any:
        return self.optuna.importance.FanovaImportanceEvaluator(seed=0)

    def write(self) -> Sequence[str]:
        """Write ``trials.csv``, ``sweep.html`` and, of the best trial, ``best.yaml``; return what came out."""
        rows = [
            {"trial": trial.number, "state": trial.state.name.lower(), f"validation_{self.metric.name}": _value(trial)}
            | {"epochs": len(trial.intermediate_values), **self.point(trial)}
            for trial in self.trials()
        ]
        write_csv(self.folder / "trials.csv", rows)
        if self.best is not None:
            write_recipe(from_dict(at(self.entries, self.point(self.best))), self.folder / "best.yaml")
        write_text(self.folder / "sweep.html", render(self.page()))
        return self.verdict(self.importances())

    def page(self) -> Page:
        """Return the page on the search: what was best, and what mattered."""
        from optuna.visualization import matplotlib as visual

        trials, best, importances = self.trials(), self.best, self.importances()
        scale, what = self.metric.scale, f"validation {self.metric.words}"
        values = [scale * _value(trial) for trial in trials]
        drawn = [
            _picture("trials", partial(visual.plot_optimization_history, self.study, target_name=what)),
            _picture("epochs", partial(visual.plot_intermediate_values, self.study)),
        ]
        if importances:
            evaluator = self._importance_evaluator()
            drawn.append(_picture("importances", partial(visual.plot_param_importances, self.study, evaluator)))
        slices = _picture("entries", partial(visual.plot_slice, self.study, target_name=what))
        order = sorted(zip(trials, values, strict=True), key=lambda pair: _rank(pair[1], self.metric), reverse=True)
        cells = [
            [str(trial.number), trial.state.name.lower(), self.metric.show(value / scale),
             str(len(trial.intermediate_values)), *(_text(self.point(trial).get(each.key, "-")) for each in self.space)]
            for trial, value in order
        ]  # fmt: skip
        columns = ["trial", "state", f"validation {self.metric.words}", "epochs", *(each.key for each in self.space)]
        states = [trial.state.name for trial in trials]
        text = (
            "Values are of validation data, after the last epoch; a trial that was stopped early has that of its "
            "last. The share of an entry is that of the variance over trials that it explains (fANOVA); of few trials "
            "it says little."
        )
        shown = [[each.key, _range(each)] for each in self.space]
        answer, *more = self.verdict(importances)
        recipe = Table((), texts(self.about["recipe"]), "all entries")
        return Page(
            f"Search {self.folder.name}",
            str(from_dict(dict(self.about["recipe"]))),
            answer,
            more,
            [("best", "-" if best is None else self.metric.show(best.value))]
            + [(name.lower().replace("complete", "finished").replace("fail", "failed"), str(states.count(name)))
               for name in ("COMPLETE", "PRUNED", "FAIL")],
            [
                Section("What mattered", text, drawn),
                Section("Each entry", pictures=[slices]),
                Section("Trials", tables=[Table(columns, cells)]),
                Section("What was searched", tables=[Table((), shown)]),
                Section("The recipe", tables=[recipe]),
            ],
        )  # fmt: skip

    def verdict(self, importances: Mapping[str, float]) -> list[str]:
        """Return in sentences what came out."""
        if self.best is None:
            return ["No trial has finished."]
        point = self.point(self.best)
        value = self.metric.show(self.best.value)
        found = [f"Trial {self.best.number} is best: validation {self.metric.words} {value} ({point_text(point)})."]
        if importances:
            key, share = max(importances.items(), key=lambda pair: pair[1])
            found.append(f"{key} mattered most: {100 * share:.0f} % of what differs between trials.")
        edges = [each.key for each in self.space if each.is_end(point[each.key])]
        if edges:
            found.append(f"The best is at an end of the range of {', '.join(edges)}: a wider one may hold a better.")
        return found


def _value(trial: Any) -> float:
    """A trial's value; of one that was stopped early its last, NaN for none."""
    if trial.state.name == "COMPLETE":
        return float(trial.value)
    values = trial.intermediate_values
    return float(values[max(values)]) if values and trial.state.name == "PRUNED" else math.nan


def _rank(value: float, metric: Metric) -> float:
    return -math.inf if math.isnan(value) else value if metric.higher_is_better else -value


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)


def _range(dimension: Dimension) -> str:
    if dimension.choices:
        return ", ".join(dimension.choices)
    how = ["whole"] * dimension.whole + ["log"] * dimension.log
    how += [] if dimension.step is None else [f"step {dimension.step:g}"]
    return f"{show(dimension.low)} to {show(dimension.high)}" + (f" ({', '.join(how)})" if how else "")


def point_text(point: Mapping[str, Any]) -> str:
    """Return values by key as a person reads them.

    Example:
        >>> point_text({"optimizer.lr": 0.012345678, "network.block": "sew"})
        'optimizer.lr=0.01235, network.block=sew'
    """
    return ", ".join(f"{key}={_text(value)}" for key, value in point.items())


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
    if options.trials < 1:
        raise UsageError(f"--trials must be at least 1, got {options.trials}")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return _search(options, optuna)


def _search(options: argparse.Namespace, optuna: Any) -> int:
    seed = options.recipe.training.seed
    # A quasi-random sequence is one for all trials.
    moves = shlex.split(options.sampler)[:1] != ["qmc"]

    def sampler(number: int) -> Any:
        return component("--sampler", options.sampler, SAMPLERS, optuna.samplers, seed=seed + moves * number)

    sampler(0)
    pruner = component("--pruner", options.pruner, PRUNERS, optuna.pruners)
    folder = Path(options.out)
    try:
        space = read_space(Path(options.space), options.said)
    except ValueError as error:
        raise UsageError(str(error)) from None
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
                verdict = search.write()
    print("\n" + "\n".join(verdict))
    if search.best is None:
        raise ValueError(f"no trial has finished: the logs are in {folder / 'trials'}")
    print(f"written: best.yaml, sweep.html and trials.csv in {folder}")
    words = ["shortcut-snn", "train", "--config", str(folder / "best.yaml"), "--out", str(folder / "best")]
    words += [word for name in options.imports for word in ("--import", name)]
    print(f"train the best: {shlex.join(words)}")
    return 0


def _picture(name: str, draw: Callable[[], Any]) -> Markup:
    """What a function of Optuna draws, as SVG to stand in a page; the name tells its parts from other pictures'."""
    from matplotlib import pyplot as plt

    written = io.StringIO()
    # Optuna sets a style for the whole process.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "figure.constrained_layout.use": True}):
        figure = np.ravel(draw())[0].figure
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
        plt.close(figure)
    svg = written.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(href="|url\()#', rf"\1#{name}-", svg)
    # The page, not the file, says how large it is.
    svg = re.sub(r'<svg([^>]*?) width="[^"]*"', rf'<svg role="img" aria-label="{name}"\1', svg, count=1)
    return Markup(re.sub(r'<svg([^>]*?) height="[^"]*"', r"<svg\1", svg, count=1))
