"""Plan a comparison: variants of a recipe, their seeds, and the values to tune for each variant."""

import dataclasses
import itertools
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...recipes import Method, Recipe, build, changed, from_dict, layer, merged, parse_options
from ...training import RunFolder, recipe_differences
from ...yaml_text import parse
from .._parser import words

METHODS = ("vanilla", "shortcut", "evolutionary", "calibrated")
# Two runs that differ in one of these are judged on different data, or differ by chance.
FIXED = ("training.seed", "data.seed", "data.validation", "data.train_limit")
MAX_FOLDER_NAME = 100


@dataclass(frozen=True, eq=False)
class Variant:
    """One row of a comparison.

    Args:
        label: its name.
        recipe: what its runs train, except for the seed.
        candidates: sets of entries, as ``("optimizer.lr=0.1",)``, the best of which is chosen before the seeds are
            trained; empty if nothing is tuned.
    """

    label: str
    recipe: Recipe
    candidates: tuple[tuple[str, ...], ...] = ()

    @property
    def folder(self) -> str:
        """The name of its folder."""
        return folder_name(self.label)

    def run_folder(self, comparison: Path, seed: int) -> RunFolder:
        """Return the folder of a run in the folder of a comparison."""
        return RunFolder(comparison / self.folder / f"seed{seed}")


def folder_name(label: str) -> str:
    """Return a label as the name of a folder."""
    name = "".join(c if c.isalnum() or c in "=.-" else "_" for c in label)
    if len(name) <= MAX_FOLDER_NAME:
        return name
    digest = f"-{zlib.crc32(label.encode()):08x}"
    return name[: MAX_FOLDER_NAME - len(digest)] + digest


@dataclass(frozen=True)
class Plan:
    """The variants and seeds that a comparison trains.

    Args:
        variants: the rows; the first one is the baseline.
        seeds: the seeds of each variant.
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
        >>> [variant.label for variant in plan({}, ["vanilla,evolutionary"], grid=["network.width=8,16"]).variants]
        ['vanilla width=8', 'evolutionary width=8', 'vanilla width=16', 'evolutionary width=16']
    """
    if not 1 <= seeds <= 10_000:
        raise ValueError(f"--seeds is the number of seeds, from 1 to 10000, got {seeds}")
    specs = [spec for text in methods for spec in ([text] if "=" in text else text.split(",")) if spec.strip()]
    if not specs:
        raise ValueError("--methods is empty: name presets, as in --methods vanilla evolutionary")
    grid_axes = [_axis("--grid", text) for text in grid]
    tune_axes = [_axis("--tune", text) for text in tune]
    if tune_epochs is not None and not tune_axes:
        raise ValueError("--tune-epochs needs --tune, as in --tune optimizer.lr=0.03,0.1,0.3")
    drafts = [_draft(entries, spec, point, tune_axes) for point in itertools.product(*grid_axes) for spec in specs]
    for draft in drafts:
        _check_candidates(draft, tune_epochs)
    first = drafts[0].recipe.training.seed
    return Plan(_labelled(drafts), tuple(range(first, first + seeds)), tuple(imports), tune_epochs)


@dataclass(frozen=True)
class _Draft:
    """A variant before its label is chosen: a method, and the entries that set it apart."""

    method: str
    options: tuple[str, ...]
    recipe: Recipe
    candidates: tuple[tuple[str, ...], ...]

    @property
    def short_label(self) -> str:
        """The method's name, and the last part of each key that is unique."""
        keys = [_key(option) for option in self.options]
        short = [_last_part(key) for key in keys]
        names = [key if short.count(last) > 1 else last for key, last in zip(keys, short, strict=True)]
        values = [option.partition("=")[2].replace('"', "") for option in self.options]
        return " ".join([Path(self.method).stem, *map("=".join, zip(names, values, strict=True))])

    @property
    def full_label(self) -> str:
        """The method and its entries as the user wrote them."""
        return " ".join([self.method, *self.options])


def _draft(entries: Mapping[str, Any], spec: str, point: Sequence[str], tune_axes: Sequence[Sequence[str]]) -> _Draft:
    """Return the variant of a method at one point of the grid."""
    method, *own_options = words("--methods", spec)
    keys = [_key(option) for option in [*point, *own_options, *(axis[0] for axis in tune_axes)]]
    if "training.seed" in keys:
        raise ValueError("training.seed cannot be varied: give the number of seeds with --seeds")
    method_entries = merged(_laid_over_method(entries, layer(method)), parse_options(own_options))
    skipped = {_key(option) for option in own_options}
    has_branches = from_dict(method_entries).method.branches is not None

    def concerns(option: str) -> bool:
        # A method without branches has no entries of branches, and a method's own entries are not varied.
        return _key(option) not in skipped and (has_branches or not _key(option).startswith("method.branches."))

    varied = tuple(option for option in point if concerns(option))
    axes = [axis for axis in tune_axes if concerns(axis[0])]
    return _Draft(
        method,
        (*varied, *own_options),
        from_dict(merged(method_entries, parse_options(varied))),
        tuple(itertools.product(*axes)) if axes else (),
    )


def _laid_over_method(entries: Mapping[str, Any], preset: Mapping[str, Any]) -> dict[str, Any]:
    """Lay the shared entries over a preset's method, and the preset's other entries over those.

    So a shared objective holds for all methods, while a preset without branches has none.
    """
    method, shared = dict(preset.get("method") or {}), dict(entries)
    if method.get("branches", method) is None and isinstance(shared.get("method"), Mapping):
        shared["method"] = {key: value for key, value in shared["method"].items() if key != "branches"}
    others = {key: value for key, value in preset.items() if key != "method"}
    return merged({"method": method} if method else {}, shared, others)


def _check_candidates(draft: _Draft, tune_epochs: int | None) -> None:
    """Refuse candidates that validation data cannot compare."""
    varied = {_key(option) for option in draft.options}
    for candidate in draft.candidates:
        if twice := varied & {_key(option) for option in candidate}:
            raise ValueError(f"{twice.pop()} is both in --grid and in --tune: use one of the two")
        sets_epochs = with_candidate(draft.recipe, candidate).training.epochs != draft.recipe.training.epochs
        if tune_epochs is not None and sets_epochs:
            raise ValueError("--tune training.epochs sets the epochs of its runs: omit --tune-epochs")
        first = with_candidate(draft.recipe, draft.candidates[0], tune_epochs)
        if fixed := differing_fixed_entry(first, with_candidate(draft.recipe, candidate, tune_epochs)):
            raise ValueError(f"{fixed} decides what --tune judges by: vary it with --grid")


def _labelled(drafts: Sequence[_Draft]) -> tuple[Variant, ...]:
    """Return variants with unique labels and folders; equal drafts become one variant."""
    variants: dict[str, Variant] = {}
    for draft in drafts:
        namesakes = [other for other in drafts if other.short_label == draft.short_label]
        is_unique = all(other.recipe == draft.recipe for other in namesakes)
        label = draft.short_label if is_unique else draft.full_label
        variants[label] = Variant(label, draft.recipe, draft.candidates)
    folders = {variant.folder: variant for variant in variants.values()}
    for variant in variants.values():
        if (other := folders[variant.folder]) != variant:
            raise ValueError(
                f"{variant.label} and {other.label} would share the folder {variant.folder}: rename a file"
            )
    return tuple(variants.values())


def _axis(option: str, text: str) -> list[str]:
    """Return the entries ``KEY=VALUE`` of an option ``KEY=A,B``."""
    key, _, values = text.partition("=")
    if not values:
        raise ValueError(f"{option} takes KEY=A,B as in method.branches.taps=stages,blocks, got {text!r}")
    try:
        return [f"{key.strip()}={json.dumps(value)}" for value in parse(f"[{values}]")]
    except ValueError as error:
        raise ValueError(f"{option} {text}: {error}") from None


def _key(option: str) -> str:
    return option.partition("=")[0]


def _last_part(key: str) -> str:
    """Return the last part of a dotted key; of a kind the component that it chooses."""
    parts = key.split(".")
    return parts[-2] if parts[-1] == "kind" and len(parts) > 1 else parts[-1]


def with_candidate(recipe: Recipe, options: Sequence[str], epochs: int | None = None) -> Recipe:
    """Return a recipe with the entries of a candidate, and optionally another number of epochs.

    Raises:
        ValueError: an entry is unknown, or its value is invalid.
    """
    return changed(recipe, parse_options(options), {} if epochs is None else {"training": {"epochs": epochs}})


def without_method(name: str) -> dict[str, Any]:
    """Return the entries of a preset, recipe or file, except for a method that is written out in full.

    The recipe of a run states its whole method, which would make all compared methods the same.
    """
    entries = layer(name, with_method=False)
    method = entries.get("method")
    is_complete = isinstance(method, Mapping) and method.keys() >= {field.name for field in dataclasses.fields(Method)}
    return {key: value for key, value in entries.items() if not (is_complete and key == "method")}


def differing_fixed_entry(one: Recipe, other: Recipe) -> str:
    """Return an entry that makes two recipes' values incomparable; empty if there is none."""
    keys = recipe_differences(one.to_dict(), other.to_dict())
    return next((key for key in FIXED if key in keys), "")


def validation_metric(recipe: Recipe) -> dict[str, Any]:
    """Return the metric by which a recipe's runs are judged: its name, direction, unit and chance level.

    Raises:
        ValueError: the recipe has no validation data.
        FileNotFoundError: the data is missing.
    """
    task, data = build(recipe)
    if data.loaders(recipe.training.seed).validation is None:
        remedy = ": add --data.validation 0.1" if hasattr(recipe.data, "validation") else ""
        raise ValueError(f"values are chosen on validation data, and this recipe has none{remedy}")
    return {name: getattr(task, name) for name in ("metric", "higher_is_better", "fraction", "chance")}
