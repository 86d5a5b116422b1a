"""What a search is over: entries of a recipe, each with its choices or its range."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...components import suggestion
from ...recipes.entries import Entries, from_dict, merged
from ...runs.tables import show
from ...yaml_text import parse

WORDS = ("low", "high", "log", "step", "choices")
# With another of these a trial would be judged on other data, or by luck.
FIXED = ("training.seed", "data.seed", "data.validation")


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

    def __str__(self) -> str:
        """Say which values there are."""
        if self.choices:
            return ", ".join(self.choices)
        how = ["whole"] * self.whole + ["log"] * self.log
        how += [] if self.step is None else [f"step {self.step:g}"]
        return f"{show(self.low)} to {show(self.high)}" + (f" ({', '.join(how)})" if how else "")

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


def point_text(point: Mapping[str, Any]) -> str:
    """Return values by key as a person reads them.

    Example:
        >>> point_text({"optimizer.lr": 0.012345678, "network.block": "sew"})
        'optimizer.lr=0.01235, network.block=sew'
    """
    return ", ".join(f"{key}={value_text(value)}" for key, value in point.items())


def value_text(value: Any) -> str:
    """Return a value as a person reads it."""
    return f"{value:.4g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)
