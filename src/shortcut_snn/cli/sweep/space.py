"""The search space: entries of a recipe and Optuna's distributions over their values."""

import json
import math
from collections.abc import Iterator, Mapping
from itertools import combinations, product
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from ..._utils.yaml_text import parse
from ...recipes import Recipe, from_dict, merged, parse_options
from ...training import flatten_entries, format_value, recipe_differences

NOTATION = "write {low: 0.001, high: 0.1, log: true}, {low: 8, high: 32, step: 8} or {choices: [8, 16]}"
# Two runs that differ in one of these are judged on different data, or differ by chance.
FIXED = ("training.seed", "data.seed", "data.validation", "data.train_limit")
Space = dict[str, BaseDistribution]
"""A distribution for each dotted key; a choice that is a group or a list is a JSON text."""


def read_space(path: Path, entries: Mapping[str, Any]) -> Space:
    """Read a search space, as ``optimizer.lr: {low: 0.001, high: 0.1, log: true}``, from a YAML file.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "space.yaml"
        >>> _ = path.write_text("network.width: {low: 4, high: 16, log: true}")
        >>> read_space(path, {"network": "resnet20"})
        {'network.width': IntDistribution(high=16, log=True, low=4, step=1)}
    """
    if not path.is_file():
        raise ValueError(f"{path} does not exist")
    try:
        specs = parse(path.read_text(encoding="utf-8"))
        if not isinstance(specs, dict) or not specs:
            raise ValueError(f"not a search space: for each entry {NOTATION}")
        return make_space(specs, entries)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def make_space(specs: Mapping[str, Any], entries: Mapping[str, Any]) -> Space:
    """Return the space of specifications such as ``{"network.width": {"choices": [8, 16]}}``."""
    space = {key: _distribution(key, spec, FloatDistribution) for key, spec in specs.items()}
    first: Recipe | None = None
    for point in _points(specs):
        try:
            recipe = from_dict(entries_at(entries, point))
        except ValueError as error:
            raise ValueError(f"the recipe refuses {point_text(point)}: {error}") from None
        first = first or recipe
        if fixed := recipe_differences(first.to_dict(), recipe.to_dict()).keys() & FIXED:
            raise ValueError(f"{fixed.pop()} decides what trials are judged by, so it cannot be searched")
    assert first is not None
    # The recipe's type decides: a range of floats may be written with integers too.
    values = dict(flatten_entries(first.to_dict()))
    integers = [key for key, spec in specs.items() if "choices" not in spec and isinstance(values[key], int)]
    return space | {key: _distribution(key, specs[key], IntDistribution) for key in integers}


def _distribution(key: str, spec: Any, number: type[FloatDistribution | IntDistribution]) -> BaseDistribution:
    """Return the distribution of a specification; a range is of the class ``number``."""
    try:
        if not isinstance(spec.get("log", False), bool):
            raise TypeError
        if "choices" not in spec:
            return number(**spec)
        spec = {"choices": [json.dumps(each) if isinstance(each, dict | list) else each for each in spec["choices"]]}
        return CategoricalDistribution(**spec)
    except (TypeError, AttributeError):
        raise ValueError(f"{key}: {NOTATION}") from None
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


def _points(specs: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a point for each pair of choices or ends of two entries, with the first value of all others."""
    values = {key: spec.get("choices") or [spec["low"], spec["high"]] for key, spec in specs.items()}
    start = {key: options[0] for key, options in values.items()}
    for keys in combinations(values, min(2, len(values))):
        for pair in product(*(values[key] for key in keys)):
            yield start | dict(zip(keys, pair, strict=True))


def entries_at(entries: Mapping[str, Any], point: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe's entries with the values of a point laid over them, by dotted key."""
    return merged(entries, parse_options([f"{key}={json.dumps(value)}" for key, value in point.items()]))


def params_of(point: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a trial at a point: groups and lists as JSON texts."""
    return {key: json.dumps(value) if isinstance(value, dict | list) else value for key, value in point.items()}


def point_of(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values by key of a trial's parameters."""
    return {
        key: json.loads(value) if isinstance(value, str) and value.startswith(("{", "[")) else value
        for key, value in params.items()
    }


def is_near_end(distribution: BaseDistribution, value: Any) -> bool:
    """Return whether a number lies within 5 % of an end of its range, or is the least or greatest of its choices."""
    if distribution.single():
        return False
    if isinstance(distribution, CategoricalDistribution):
        numbers = [x for x in distribution.choices if isinstance(x, int | float) and not isinstance(x, bool)]
        return len(numbers) == len(distribution.choices) and value in (min(numbers), max(numbers))
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    ends = (distribution.low, distribution.high)
    low, high, at = map(math.log, (*ends, value)) if distribution.log else (*ends, value)
    return not 0.05 < (at - low) / (high - low) < 0.95


def point_text(point: Mapping[str, Any]) -> str:
    """Return values by key as text."""
    return ", ".join(f"{key}={format_value(value)}" for key, value in point.items())
