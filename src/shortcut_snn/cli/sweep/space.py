"""What a search is over: entries of a recipe, each with its choices or its range."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

from ...components import suggestion
from ...recipes.entries import Entries, from_dict, merged
from ...training import flatten_entries, format_value
from ...yaml_text import parse
from ..compare import judged_otherwise

WORDS = ("low", "high", "log", "step", "choices")


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

    @property
    def size(self) -> float:
        """How many values there are."""
        if self.choices:
            return len(self.choices)
        if not self.whole and self.step is None:
            return math.inf
        low, high, step = (Decimal(str(x)) for x in (self.low, self.high, self.step or 1))
        return int((high - low) // step) + 1

    def __str__(self) -> str:
        """Say which values there are."""
        if self.choices:
            return ", ".join(self.choices)
        how = ["whole"] * self.whole + ["log"] * self.log
        how += [] if self.step is None else [f"step {self.step:g}"]
        return f"{format_value(self.low)} to {format_value(self.high)}" + (f" ({', '.join(how)})" if how else "")

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
    points = [start | {each.key: value} for each in dimensions for value in each.ends]
    # What goes with one choice may not go with another.
    pairs = [
        start | {one.key: value, other.key: its}
        for one, other in combinations(dimensions, 2) if one.choices or other.choices
        for value in one.ends for its in other.ends
    ]  # fmt: skip
    for point in [*points, *pairs]:
        if refused := _refusal(entries, point):
            raise ValueError(f"{path}: {_blamed(entries, point, refused)}{refused}")
    first, *others = (from_dict(at(entries, point)) for point in points)
    for fixed in filter(None, (judged_otherwise(first, other) for other in others)):
        raise ValueError(f"{path}: {fixed} decides what trials are judged by, and is the same for all")
    for place, each in enumerate(dimensions):
        if not each.choices and all(isinstance(x, int) for x in (each.low, each.high, each.step or 1)):
            # Whole numbers are also how people write 1.0: what the entry takes decides.
            whole = bool(_refusal(entries, start | {each.key: each.low + (each.high - each.low) / math.pi}))
            dimensions[place] = Dimension(**asdict(each) | {"whole": whole})
    return tuple(dimensions)


def _refusal(entries: Mapping[str, Any], point: Mapping[str, Any]) -> str:
    """Return why a recipe does not take a point; nothing where it does."""
    try:
        _check_places(point)
        from_dict(at(entries, point))
    except ValueError as error:
        return str(error)
    return ""


def _blamed(entries: Mapping[str, Any], point: Mapping[str, Any], refused: str) -> str:
    """Return the values that a refusal does not name: of what it is part of, and those without which it is none."""
    said = ""
    for key in point:
        holds = refused.startswith(f"{key.removesuffix('.kind')}.")
        if key not in refused and (holds or not _refusal(entries, {k: point[k] for k in point if k != key})):
            said += f"{key}={value_text(point[key])}: "
    return said


def _check_places(point: Mapping[str, Any]) -> None:
    """Refuse a point of which one value is nothing to lay another over, or says the same entry."""
    leaves = [(key, *leaf) for key in sorted(point, key=_rank) for leaf in flatten_entries({key: point[key]})]
    for (one, key, value), (other, within, _) in permutations(leaves, 2):
        # A name alone stands for a component of this kind.
        parts = isinstance(value, str | dict) and within != f"{key}.kind"
        if one != other and (within == key or (within.startswith(f"{key}.") and not parts)):
            said = f"{one}={value_text(point[one])} leaves no place for {other}={value_text(point[other])}"
            raise ValueError(f"{said}: choose values that go with one another, or leave one of the two entries out")


def _dimension(key: str, spec: Any) -> Dimension:
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
    """Return entries with those of a point, by dotted key, laid over them: groups first, kinds before their options."""
    layers = []
    for key, value in sorted(flatten_entries(point), key=lambda leaf: _rank(leaf[0])):
        for part in reversed(key.split(".")):
            value = {part: value}
        layers.append(value)
    return merged(entries, *layers)


def _rank(key: str) -> tuple[int, bool]:
    return key.count("."), not key.endswith(".kind")


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
