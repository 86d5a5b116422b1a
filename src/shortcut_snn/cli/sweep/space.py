"""The search space of a sweep: entries of a recipe and Optuna's distributions over their values."""

import json
import math
from collections.abc import Iterator, Mapping
from itertools import combinations, product
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from ...recipes import Recipe, from_dict, merged, parse_options
from ...training import format_value
from ...yaml_text import parse
from ..compare import differing_fixed_entry

NOTATION = "write {low: 0.001, high: 0.1, log: true}, {low: 8, high: 32, step: 8} or {choices: [8, 16]}"
Space = dict[str, BaseDistribution]
"""A distribution for each dotted key; a choice that is a group or a list is a JSON text."""


def read_space(path: Path, entries: Mapping[str, Any]) -> Space:
    """Read a search space, as ``optimizer.lr: {low: 0.001, high: 0.1, log: true}``, from a YAML file.

    Args:
        path: of the file.
        entries: the recipe's entries, over which the searched ones are laid.

    Raises:
        ValueError: the file is not a space, or the recipe does not accept its entries or values.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "space.yaml"
        >>> _ = path.write_text("network.width: {low: 4, high: 16, log: true}")
        >>> read_space(path, {"network": "resnet20"})
        {'network.width': IntDistribution(high=16, log=True, low=4, step=1)}
    """
    specs = _read_specs(path)
    try:
        _refuse_nested(specs)
        _check_recipes(specs, entries)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return {key: _distribution(spec, _is_integer(specs, key, entries)) for key, spec in specs.items()}


def _read_specs(path: Path) -> dict[str, dict[str, Any]]:
    if not path.is_file():
        raise ValueError(f"{path} does not exist")
    try:
        specs = parse(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is {error}") from None
    if not isinstance(specs, dict) or not specs:
        raise ValueError(f"{path} is not a search space: for each entry {NOTATION}")
    for key, spec in specs.items():
        if not _is_spec(spec):
            raise ValueError(f"{path}: {key}: {NOTATION}")
        try:
            _distribution(spec, integer=False)
        except ValueError as error:
            raise ValueError(f"{path}: {key}: {error}") from None
    return specs


def _is_spec(spec: Any) -> bool:
    """Return whether a value has the form of :data:`NOTATION`."""
    if not isinstance(spec, dict):
        return False
    if set(spec) == {"choices"}:
        return isinstance(spec["choices"], list)
    numbers = [value for word, value in spec.items() if word != "log"]
    return (
        {"low", "high"} <= set(spec) <= {"low", "high", "log", "step"}
        and isinstance(spec.get("log", False), bool)
        and all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers)
    )


def _distribution(spec: Mapping[str, Any], integer: bool) -> BaseDistribution:
    if "choices" in spec:
        choices = [json.dumps(each) if isinstance(each, dict | list) else each for each in spec["choices"]]
        return CategoricalDistribution(choices)
    low, high, log = spec["low"], spec["high"], spec.get("log", False)
    if integer:
        return IntDistribution(low, high, log, spec.get("step", 1))
    return FloatDistribution(low, high, log, spec.get("step"))


def _refuse_nested(specs: Mapping[str, Any]) -> None:
    """Refuse two keys of which one contains the other: it would be unclear which value holds."""
    for outer in specs:
        if inner := next((key for key in specs if key.startswith(f"{outer}.")), None):
            raise ValueError(f"{inner} is a part of {outer}: search for one of the two")


def _check_recipes(specs: Mapping[str, Any], entries: Mapping[str, Any]) -> None:
    """Refuse values that the recipe does not accept, alone or in pairs, or that would change the validation data."""
    reference: Recipe | None = None
    for point in _points(specs):
        shown = point_text(point)
        try:
            recipe = from_dict(entries_at(entries, point))
        except ValueError as error:
            raise ValueError(f"the recipe refuses {shown}: {error}") from None
        reference = reference or recipe
        if fixed := differing_fixed_entry(reference, recipe):
            raise ValueError(f"{fixed} decides what trials are judged by, so it cannot be searched")


def _points(specs: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a point for each pair of choices or ends of two entries, with the first value of all others."""
    values = {key: spec.get("choices") or [spec["low"], spec["high"]] for key, spec in specs.items()}
    start = {key: options[0] for key, options in values.items()}
    for keys in combinations(values, min(2, len(values))):
        for pair in product(*(values[key] for key in keys)):
            yield start | dict(zip(keys, pair, strict=True))


def _is_integer(specs: Mapping[str, Any], key: str, entries: Mapping[str, Any]) -> bool:
    """Return whether an entry takes integers alone: a range of a float may be written with integers too."""
    spec = specs[key]
    if "choices" in spec or not all(isinstance(spec[word], int) for word in spec):
        return False
    fraction = spec["low"] + (spec["high"] - spec["low"]) / math.pi
    point = next(_points(specs)) | {key: fraction}
    try:
        from_dict(entries_at(entries, point))
    except ValueError:
        return True
    return False


def entries_at(entries: Mapping[str, Any], point: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe's entries with the values of a point laid over them, by dotted key."""
    return merged(entries, parse_options([f"{key}={json.dumps(value)}" for key, value in point.items()]))


def point_of(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values by key of a trial's parameters."""
    return {
        key: json.loads(value) if isinstance(value, str) and value.startswith(("{", "[")) else value
        for key, value in params.items()
    }


def first_point(space: Space) -> dict[str, Any]:
    """Return the first choice or the lower end of every entry."""
    first: dict[str, Any] = {}
    for key, each in space.items():
        if isinstance(each, CategoricalDistribution):
            first[key] = each.choices[0]
        elif isinstance(each, FloatDistribution | IntDistribution):
            first[key] = each.low
    return point_of(first)


def is_near_end(distribution: BaseDistribution, value: Any) -> bool:
    """Return whether a number lies within 5 % of an end of its range."""
    if not isinstance(distribution, FloatDistribution | IntDistribution) or distribution.single():
        return False
    ends = (distribution.low, distribution.high)
    low, high, at = map(math.log, (*ends, value)) if distribution.log else (*ends, value)
    return not 0.05 < (at - low) / (high - low) < 0.95


def range_text(distribution: BaseDistribution) -> str:
    """Return the values of a distribution as text."""
    if isinstance(distribution, CategoricalDistribution):
        return ", ".join(map(str, distribution.choices))
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    remarks = ["log scale"] * distribution.log
    remarks += [f"step {distribution.step:g}"] if distribution.step and distribution.step != 1 else []
    return f"{distribution.low:g} to {distribution.high:g}" + (f" ({', '.join(remarks)})" if remarks else "")


def point_text(point: Mapping[str, Any]) -> str:
    """Return values by key as text.

    Example:
        >>> point_text({"optimizer.lr": 0.012345678, "network.block": "sew"})
        'optimizer.lr=0.01235, network.block=sew'
    """
    return ", ".join(f"{key}={format_value(value)}" for key, value in point.items())
