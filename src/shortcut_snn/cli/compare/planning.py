"""What is compared: variants of a recipe, their seeds, and what of each is tuned first."""

import dataclasses
import itertools
import json
import zlib
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...recipes import build
from ...recipes.entries import changed, from_dict, layer, merged, said
from ...recipes.recipe import Method, Recipe
from ...training import flatten_entries, recipe_differences
from ...yaml_text import parse
from .._parser import words

METHODS = ("vanilla", "shortcut", "evolutionary", "calibrated")
# With another of these a run would be judged on other data, or by luck.
FIXED = ("training.seed", "data.seed", "data.validation", "data.train_limit")


@dataclass(frozen=True)
class Variant:
    """One row of the comparison: a recipe but for its seed.

    Args:
        label: its name.
        recipe: what its runs do.
        tries: sets of entries, as ``("optimizer.lr=0.1",)``, of which the best is found first; none: nothing is tuned.
    """

    label: str
    recipe: Recipe
    tries: tuple[tuple[str, ...], ...] = ()

    @property
    def folder(self) -> str:
        """A name for its folder."""
        return folder_of(self.label)


def folder_of(label: str) -> str:
    """Return the name of a folder for what a label says."""
    name = "".join(c if c.isalnum() or c in "=.-" else "_" for c in label)
    return name if len(name) <= 100 else f"{name[:91]}-{zlib.crc32(label.encode()):08x}"


@dataclass(frozen=True)
class Plan:
    """What is compared; the first variant is what the others are set against.

    Args:
        variants: the rows.
        seeds: of each.
        imports: files and modules that every run imports.
        tune_epochs: how long a run of a variant's tries is; None: as long as any other.
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
    """Return the plan of a command line.

    Args:
        entries: what all runs share.
        methods: presets or files of entries, each perhaps with entries of its own behind it, as in
            ``"evolutionary method.branches.taps=blocks"``; names alone may stand in one string, with commas between.
        seeds: how many, from the recipe's own on.
        grid: entries ``key=a,b`` to vary besides.
        imports: see :class:`Plan`.
        tune: entries ``key=a,b`` of which each variant gets its own best.
        tune_epochs: see :class:`Plan`.

    Raises:
        ValueError: an unknown method or entry, or nothing to compare.

    Example:
        >>> [variant.label for variant in plan({}, ["vanilla,evolutionary"], grid=["network.width=8,16"]).variants]
        ['vanilla width=8', 'evolutionary width=8', 'vanilla width=16', 'evolutionary width=16']
    """
    if not 1 <= seeds <= 10_000:
        raise ValueError(f"--seeds is how many, not which: from 1 to 10000, got {seeds}")
    specs = [spec for text in methods for spec in ([text] if "=" in text else text.split(",")) if spec.strip()]
    if not specs:
        raise ValueError("--methods names nothing to compare: presets, as in --methods vanilla evolutionary")
    tuned = [_axis(entry, "--tune") for entry in tune]
    if tune_epochs is not None and not tuned:
        raise ValueError("--tune-epochs is for --tune, as in --tune optimizer.lr=0.03,0.1,0.3")
    made: list[tuple[str, str, Recipe, tuple[tuple[str, ...], ...]]] = []
    for point in itertools.product(*map(_axis, grid)):
        for spec in specs:
            name, *own = words("--methods", spec)
            _refuse_seed([*point, *own, *(axis[0] for axis in tuned)])
            method = merged(_laid(entries, layer(name)), said(own))
            branched = from_dict(method).method.branches is not None
            known = {option.partition("=")[0] for option in own}

            def concerns(option: str, known: Container[str] = known, branched: bool = branched) -> bool:
                # How branches are is no matter of a method that has none, and what a method says itself is not varied.
                key = option.partition("=")[0]
                return key not in known and (branched or not key.startswith("method.branches."))

            varied = [option for option in point if concerns(option)]
            options = [*varied, *own]
            recipe = from_dict(merged(method, said(varied)))
            axes = [axis for axis in tuned if concerns(axis[0])]
            tries = tuple(itertools.product(*axes)) if axes else ()
            for each in tries:
                if both := {option.partition("=")[0] for option in varied} & {o.partition("=")[0] for o in each}:
                    raise ValueError(f"{both.pop()} is both in --grid and in --tune: each value, or each method's best")
                if tune_epochs is not None and "training.epochs" in dict(flatten_entries(said(each))):
                    raise ValueError("--tune training.epochs says how long its runs are: leave --tune-epochs out")
                if fixed := judged_otherwise(tried(recipe, tries[0], tune_epochs), tried(recipe, each, tune_epochs)):
                    raise ValueError(f"{fixed} decides what the values of --tune are judged by: vary it with --grid")
            made.append((_label(name, options), " ".join([name, *options]), recipe, tries))
    variants: dict[str, Variant] = {}
    for short, whole, recipe, tries in made:
        alike = all(other == recipe for label, _, other, _ in made if label == short)
        variant = Variant(short if alike else whole, recipe, tries)
        variants[variant.label] = variant
        same = next(each for each in variants.values() if each.folder == variant.folder)
        if same != variant:
            raise ValueError(f"{same.label} and {variant.label} would share the folder {variant.folder}: rename a file")
    first = made[0][2].training.seed
    return Plan(tuple(variants.values()), tuple(range(first, first + seeds)), tuple(imports), tune_epochs)


def tried(recipe: Recipe, options: Sequence[str], epochs: int | None = None) -> Recipe:
    """Return a variant's recipe with one of its tries, for so many epochs.

    Raises:
        ValueError: an entry that there is not, or a value that makes no sense.
    """
    return changed(recipe, said(options), {} if epochs is None else {"training": {"epochs": epochs}})


def without_method(name: str) -> dict[str, Any]:
    """Return the entries of a recipe, but for which method it is, if it says so.

    A run's own recipe says all of its method, and would make all that are compared the same.
    """
    entries = layer(name, presets=False)
    method = entries.get("method")
    whole = isinstance(method, Mapping) and method.keys() >= {field.name for field in dataclasses.fields(Method)}
    return {key: value for key, value in entries.items() if not (whole and key == "method")}


def _laid(entries: Mapping[str, Any], preset: Mapping[str, Any]) -> dict[str, Any]:
    """Lay what all share over a preset's method, and the rest of the preset over that.

    So an objective that is said for all holds for all, and a preset without branches has none.
    """
    method, shared = dict(preset.get("method") or {}), dict(entries)
    if method.get("branches", method) is None and isinstance(shared.get("method"), Mapping):
        shared["method"] = {key: value for key, value in shared["method"].items() if key != "branches"}
    return merged({"method": method} if method else {}, shared, {k: v for k, v in preset.items() if k != "method"})


def _refuse_seed(options: Iterable[str]) -> None:
    if any(option.startswith("training.seed=") for option in options):
        raise ValueError("training.seed is not varied like other entries: say how many seeds with --seeds")


def _axis(entry: str, option: str = "--grid") -> list[str]:
    key, equals, values = entry.partition("=")
    if not equals or not values:
        raise ValueError(f"{option} takes KEY=A,B as in method.branches.taps=stages,blocks, got {entry!r}")
    try:
        return [f"{key.strip()}={json.dumps(value)}" for value in parse(f"[{values}]")]
    except ValueError as error:
        raise ValueError(f"{option} {entry}: {error}") from None


def _label(name: str, options: Sequence[str]) -> str:
    """A name and the parts of entries that say enough."""

    def short(key: str) -> str:
        parts = key.split(".")
        # Of a component its kind says what it is.
        return parts[-2] if parts[-1] == "kind" and len(parts) > 1 else parts[-1]

    pairs = [(key, value.replace('"', "")) for key, _, value in (option.partition("=") for option in options)]
    names = [short(key) for key, _ in pairs]
    shown = [key if names.count(short(key)) > 1 else short(key) for key, _ in pairs]
    return " ".join([Path(name).stem, *(f"{key}={value}" for key, (_, value) in zip(shown, pairs, strict=True))])


def judged_otherwise(one: Recipe, other: Recipe) -> str:
    """Return an entry by which two recipes' runs are judged on other data, or by luck; nothing where none is."""
    found = recipe_differences(one.to_dict(), other.to_dict())
    return next((key for key in FIXED if key in found), "")


def held_out(recipe: Recipe) -> dict[str, Any]:
    """Return what a recipe's runs are judged by: metric, direction, whether a fraction, chance.

    Raises:
        ValueError: it holds out no validation data.
        FileNotFoundError: missing data.
    """
    task, data = build(recipe)
    if data.loaders(recipe.training.seed).validation is None:
        entry = ": add --data.validation 0.1" if hasattr(recipe.data, "validation") else ""
        raise ValueError(f"values are chosen on validation data, and this recipe holds out none{entry}")
    names = ("metric", "higher_is_better", "fraction", "chance")
    return {name: getattr(task, name) for name in names}
