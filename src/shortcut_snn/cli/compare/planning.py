"""Plan a comparison: variants of a recipe, their seeds, and the entries to tune for each variant."""

import hashlib
import itertools
import json
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..._utils.yaml_text import parse
from ...method.method import NETWORKS
from ...recipes import Recipe, changed, parse_options
from ...recipes.entries import from_dict, layer, merged
from ...training.provenance import flatten_entries, recipe_differences
from .._commands import METHODS

Point = Mapping[str, Any]
"""Values of entries, by dotted key."""
NOT_TUNED = ("training.seed", "data.seed", "data.validation", "data.train_limit")
"""Entries that change the data by which values are judged, or differ by chance."""


@dataclass(frozen=True, eq=False)
class Variant:
    """One row of a comparison: its recipe, the values to try, and the entries that its method sets for all of them."""

    label: str
    recipe: Recipe
    tuned: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """The name of the variant's folder."""
        return folder_name(self.label)

    def candidates(self, epochs: int | None) -> Iterator[tuple[Point, Recipe]]:
        """Yield every combination of the tuned values, with the recipe that trains it for some epochs."""
        for values in itertools.product(*self.tuned.values()):
            point = dict(zip(self.tuned, values, strict=True))
            recipe = changed(self.recipe, merged(as_entries(point), self.fixed))
            if differences := recipe_differences(self.recipe.to_dict(), recipe.to_dict()).keys() & NOT_TUNED:
                raise ValueError(f"--tune cannot vary {differences.pop()}, because it defines the metric of a run")
            yield point, recipe if epochs is None else changed(recipe, {"training": {"epochs": epochs}})


@dataclass(frozen=True)
class Plan:
    """The variants and seeds that a comparison trains.

    Args:
        variants: the rows; the first one is the baseline.
        imports: files and modules that every run imports.
        tune_epochs: epochs of a run that tunes; None for the recipe's.
    """

    variants: tuple[Variant, ...]
    seeds: tuple[int, ...]
    imports: tuple[str, ...] = ()
    tune_epochs: int | None = None


def plan(
    entries: Mapping[str, Any],
    methods: Sequence[str] = METHODS,
    seeds: int = 3,
    grid: Iterable[str] = (),
    imports: Sequence[str] = (),
    tune: Iterable[str] = (),
    tune_epochs: int | None = None,
) -> Plan:
    """Return the plan of a comparison.

    Args:
        entries: entries of the recipe that all runs share.
        methods: presets or files, each optionally followed by entries of its own, as in
            ``"evolutionary method.branches.taps=blocks"``; one string may list names with commas between them.
        seeds: the number of seeds, starting at the recipe's.
        grid: entries ``KEY=A,B``; every combination of their values is a variant.
        imports: see :class:`Plan`.
        tune: entries ``KEY=A,B`` of which each variant uses its own best value.
        tune_epochs: see :class:`Plan`.

    Raises:
        ValueError: a method or an entry is unknown, or there is nothing to compare.

    Example:
        >>> [variant.label for variant in plan({}, ["vanilla,evolutionary"], grid=["network.width=8"]).variants]
        ['vanilla network.width=8', 'evolutionary network.width=8']
    """
    if not 1 <= seeds <= 10_000:
        raise ValueError(f"--seeds is the number of seeds, from 1 to 10000, got {seeds}")
    specs = [spec for text in methods for spec in ([text] if "=" in text else text.split(",")) if spec.strip()]
    if not specs:
        raise ValueError("--methods is empty: name presets, as in --methods vanilla evolutionary")
    varied, tuned = _values("--grid", grid), _values("--tune", tune)
    if both := varied.keys() & tuned.keys():
        raise ValueError(f"{both.pop()} is both in --grid and in --tune: use one of the two")
    if tune_epochs is not None and not tuned:
        raise ValueError("--tune-epochs needs --tune, as in --tune optimizer.lr=0.03,0.1,0.3")
    variants: dict[str, Variant] = {}
    for values in itertools.product(*varied.values()):
        for spec in specs:
            variant = _variant(entries, spec, dict(zip(varied, values, strict=True)), tuned)
            # On some file systems upper and lower case are one.
            other = variants.setdefault(variant.folder.lower(), variant)
            if (other.label, other.recipe) != (variant.label, variant.recipe):
                raise ValueError(f"two variants would share the folder {variant.folder}: rename the YAML file of one")
    for variant in variants.values():
        # Wrong values are refused before any run.
        list(variant.candidates(tune_epochs))
    recipe = next(iter(variants.values())).recipe
    first = recipe.training.seed
    # The last seed may be too large.
    changed(recipe, {"training": {"seed": first + seeds - 1}})
    return Plan(tuple(variants.values()), tuple(range(first, first + seeds)), tuple(imports), tune_epochs)


def _values(option: str, texts: Iterable[str]) -> dict[str, list[Any]]:
    """Return the different values of each key of options ``KEY=A,B``; a key may be repeated."""
    found: dict[str, list[Any]] = {}
    for text in texts:
        key, _, values = text.partition("=")
        if not values.strip():
            raise ValueError(f"{option} takes KEY=A,B as in method.branches.taps=stages,blocks, got {text!r}")
        try:
            found.setdefault(key.strip(), []).extend(parse(f"[{values}]"))
        except ValueError as error:
            raise ValueError(f"{option} {text}: {error}") from None
    return {key: [value for i, value in enumerate(each) if value not in each[:i]] for key, each in found.items()}


def _variant(
    entries: Mapping[str, Any], spec: str, point: Mapping[str, Any], tuned: Mapping[str, Sequence[Any]]
) -> Variant:
    """Return the variant of a method at one point of the grid."""
    try:
        method, *own_options = shlex.split(spec)
    except ValueError as error:
        raise ValueError(f"--methods: {str(error).lower()} in {spec!r}") from None
    network = {"network": NETWORKS[method]} if method in NETWORKS else {}
    own_keys = {key for key, _ in flatten_entries(merged(network, parse_options(own_options)))}
    if "training.seed" in {*own_keys, *point, *tuned}:
        raise ValueError("training.seed cannot be varied: give the number of seeds with --seeds")
    method_entries = merged(_lay_over_method(entries, layer(method)), parse_options(own_options))
    has_branches = from_dict(method_entries).method.branches is not None

    def concerns(key: str) -> bool:
        # A method without branches has no entries of branches, and a method's own entries are not varied.
        is_own = any(own == key or own.startswith(f"{key}.") for own in own_keys)
        return not is_own and (has_branches or not key.startswith("method.branches."))

    varied = as_words({key: value for key, value in point.items() if concerns(key)})
    return Variant(
        " ".join([Path(method).stem, *varied, *own_options]).replace('"', ""),
        # A kind of network that lacks the preset's entries is refused.
        from_dict(merged(method_entries, parse_options(varied), network)),
        {key: values for key, values in tuned.items() if concerns(key)},
        network,
    )


def as_words(point: Point) -> list[str]:
    """Return values as words ``KEY=VALUE``."""
    return [f"{key}={json.dumps(value)}" for key, value in point.items()]


def as_entries(point: Point) -> dict[str, Any]:
    """Return values as entries of a recipe."""
    return parse_options(as_words(point))


def folder_name(text: str) -> str:
    """Return a text as the name of a folder that every file system takes.

    Example:
        >>> folder_name("loss_sum a=1"), folder_name("..")
        ('loss_sum_a=1', '_.._5ec1f7')
    """
    name = "".join(character if character.isalnum() or character in "=.-" else "_" for character in text)
    # Dots alone are other folders; names end at 255 bytes.
    if not name.strip(".") or len(name.encode()) > 200:
        return f"_{name[:40]}_{hashlib.sha256(text.encode()).hexdigest()[:6]}"
    return name


def _lay_over_method(entries: Mapping[str, Any], preset: Mapping[str, Any]) -> dict[str, Any]:
    """Lay shared entries over a preset's method; a preset without branches gets none."""
    method, shared = dict(preset.get("method") or {}), dict(entries)
    if method.get("branches", method) is None and isinstance(shared.get("method"), Mapping):
        shared["method"] = {key: value for key, value in shared["method"].items() if key != "branches"}
    rest = {key: value for key, value in preset.items() if key != "method"}
    return merged({"method": method} if method else {}, shared, rest)
